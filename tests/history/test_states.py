"""States: which figures one has, what brings an experiment back, and which a name means."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from repository import PROJECT, Repository

from pttfaces.history import states

FIGURES = {
    "train": {"model_digest": "a"},
    "generate": {"model_digest": "a", "sampler": "ddim", "infer_steps": 20},
    "evaluate": {"model_digest": "a", "sampler": "ddim", "infer_steps": 20, "fid": 3.0},
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A git repository with the figures of a line that has run to its end; no DVC, no MLflow."""
    monkeypatch.chdir(tmp_path)
    for stage in FIGURES:
        write(stage, {})
    made = Repository(tmp_path)
    made.ok("git", "init", "--quiet")
    made.commit("ran")
    return made


def write(stage: str, changes: dict[str, object]) -> None:
    Path("metrics").mkdir(exist_ok=True)
    Path(f"metrics/{stage}.json").write_text(json.dumps(FIGURES[stage] | changes))


def experiment(repository: Repository, name: str, fid: float) -> str:
    """Makes an experiment from HEAD as DVC keeps one; returns its commit."""
    head = repository.ok("git", "rev-parse", "HEAD").strip()
    write("evaluate", {"fid": fid})
    repository.commit(name)
    commit = repository.ok("git", "rev-parse", "HEAD").strip()
    repository.ok("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", commit)
    repository.ok("git", "reset", "--quiet", "--hard", head)
    return commit


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda: None, ["train", "generate", "evaluate"]),
        (lambda: write("train", {"model_digest": "b"}), ["train"]),
        (lambda: Path("metrics/train.json").unlink(), []),  # as a Ctrl-C in train leaves it
        (lambda: Path("metrics/generate.json").unlink(), ["train"]),
        (lambda: write("generate", {"infer_steps": 5}), ["train", "generate"]),
        (lambda: write("generate", {"sampler": "ddpm"}), ["train", "generate"]),
    ],
    ids=["whole", "trained anew", "train stopped", "generate stopped", "steps", "sampler"],
)
def test_a_state_has_no_figures_of_an_older_model_or_older_samples(
    repository: Repository, change: Callable[[], None], left: list[str]
) -> None:
    change()
    here = states.here()
    assert [stage for stage, figures in here.metrics.items() if figures] == left
    evaluation = {"model_digest": "a"}, {"infer_steps": 20.0, "fid": 3.0}
    assert states.holds(here, *evaluation) == ("evaluate" in left)


def test_an_experiment_whose_name_another_has_is_brought_back_by_its_commit(
    repository: Repository,
) -> None:
    commits = [experiment(repository, "fine", 1.0), experiment(repository, "alone", 2.0)]
    repository.ok("git", "commit", "--quiet", "--allow-empty", "--message", "later")
    commits.append(experiment(repository, "fine", 4.0))

    def bring_back(name: str) -> list[str]:
        state = states.named(name, states.all_states())
        assert state is not None
        return state.commands

    assert bring_back("alone") == ["dvc exp apply alone"]
    assert bring_back("fine") == [f"dvc exp apply {commits[2][:8]}"]  # HEAD's, as DVC chooses
    assert bring_back(commits[0][:8]) == [f"dvc exp apply {commits[0][:8]}"]
    repository.ok("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert bring_back("fine") == [f"dvc exp apply {commits[0][:8]}"]


def test_a_commit_is_shown_without_a_store(repository: Repository) -> None:
    command = ("python", str(PROJECT / "src/history.py"))
    ended = repository.run(*command, "HEAD")
    assert ended.returncode == 0, ended.stderr
    assert "fid 3" in ended.stdout
    assert "dvc checkout" in ended.stdout
    assert ended.stderr.startswith("warning: there is no history yet")
    ended = repository.run(*command, "nonesuch")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: there is no history yet")
