"""Revisions: which figures one has, what restores an experiment, and which a name means."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from repository import PROJECT, Repository

from pttfaces.evaluation import samples
from pttfaces.report import data, revisions

FIGURES: dict[str, dict[str, Any]] = {
    "train": {"model_digest": "a"},
    "generate": {
        "num_images": 16,
        "sampler": "ddim",
        "infer_steps": 20,
        "timestep_spacing": "leading",
        "seed": 0,
        "model_digest": "a",
    },
    "evaluate": {
        "fid": 3.0,
        "generated": 16,
        "sampler": "ddim",
        "infer_steps": 20,
        "timestep_spacing": "leading",
        "seed": 0,
        "model_digest": "a",
    },
}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """A git repository with the figures of a pipeline that has run; no DVC, no MLflow."""
    monkeypatch.chdir(tmp_path)
    for stage in FIGURES:
        write(stage, {})
    made = Repository(tmp_path)
    made.ok("git", "init", "--quiet")
    made.commit("ran")
    return made


def write(stage: str, changes: dict[str, Any]) -> None:
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
        (lambda: write("generate", {"timestep_spacing": "trailing"}), ["train", "generate"]),
        (lambda: write("generate", {"num_images": 8}), ["train", "generate"]),
        (lambda: write("generate", {"seed": 1}), ["train", "generate"]),
    ],
    ids=[
        "whole",
        "trained again",
        "train stopped",
        "generate stopped",
        "steps",
        "sampler",
        "spacing",
        "number",
        "seed",
    ],
)
def test_revision_has_no_figures_of_an_older_model_or_older_samples(
    repository: Repository, change: Callable[[], None], left: list[str]
) -> None:
    change()
    here = revisions.working_folder()
    assert [stage for stage, figures in here.metrics.items() if figures] == left
    evaluation = {"model_digest": "a"}, {"infer_steps": 20.0, "fid": 3.0}
    assert revisions.holds_result(here, *evaluation) == ("evaluate" in left)


def test_revision_of_figures_without_the_newer_keys_is_read_as_before(
    repository: Repository,
) -> None:
    older = {key: FIGURES["evaluate"][key] for key in ("model_digest", "sampler", "infer_steps")}
    Path("metrics/evaluate.json").write_text(json.dumps(older | {"fid": 3.0, "generated": 16}))
    here, commit = revisions.all_revisions()
    assert here.evaluate["fid"] == 3.0
    assert here.samples == commit.samples
    assert len(data.results()) == 1
    write("generate", {"num_images": 8})
    assert revisions.working_folder().evaluate == {}
    without = {key: value for key, value in FIGURES["generate"].items() if key != "num_images"}
    Path("metrics/generate.json").write_text(json.dumps(without))
    assert revisions.working_folder().evaluate["fid"] == 3.0


def test_results_of_one_score_and_other_samples_are_two(repository: Repository) -> None:
    experiment(repository, "same", 3.0)
    for key in ("timestep_spacing", "seed"):
        for stage in ("generate", "evaluate"):
            write(stage, {key: 1})
        assert [result.names[0] for result in data.results()] == ["this folder", "same"]
    write("generate", {})
    write("evaluate", {})
    (result,) = data.results()
    assert result.names[:2] == ("this folder", "same")


def test_find_revision_of_a_name_that_two_have_restores_by_commit(
    repository: Repository,
) -> None:
    commits = [experiment(repository, "fine", 1.0), experiment(repository, "alone", 2.0)]
    repository.ok("git", "commit", "--quiet", "--allow-empty", "--message", "later")
    commits.append(experiment(repository, "fine", 4.0))

    def bring_back(name: str) -> list[str]:
        revision = revisions.find_revision(name, revisions.all_revisions())
        assert revision is not None
        return revision.commands

    assert bring_back("alone") == ["dvc exp apply alone"]
    assert bring_back("fine") == [f"dvc exp apply {commits[2][:8]}"]  # HEAD's, as DVC chooses
    assert bring_back(commits[0][:8]) == [f"dvc exp apply {commits[0][:8]}"]
    repository.ok("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert bring_back("fine") == [f"dvc exp apply {commits[0][:8]}"]


def test_history_of_a_commit_without_a_store_shows_it(repository: Repository) -> None:
    (repository.path / "dvc.yaml").touch()

    def history(name: str) -> "subprocess.CompletedProcess[str]":
        command = ("python", "-m", "pttfaces", "history", name)
        return repository.run(*command, PYTHONPATH=str(PROJECT / "src"))

    ended = history("HEAD")
    assert ended.returncode == 0, ended.stderr
    assert "fid 3" in ended.stdout
    assert "dvc checkout" in ended.stdout
    commit = repository.ok("git", "rev-parse", "HEAD").strip()
    assert ended.stdout.count(commit[:7]) == 2  # as itself, and in the command that restores it
    assert ended.stderr.startswith("warning: there is no history yet")
    ended = history("nonesuch")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: there is no history yet")


def test_evaluate_records_all_that_identifies_its_samples() -> None:
    """Else a score of other samples would stand beside these."""
    compared = {*revisions._FOLLOWS["evaluate"][1], *revisions._SAMPLES}
    assert {*samples.RECORDED, "generated"} == compared


def test_history_of_two_names_says_which_is_better_as_far_as_samples_tell(
    repository: Repository,
) -> None:
    for name, fid, half in (("good", 2.0, 0.1), ("close", 2.9, 0.2)):
        write("evaluate", {"fid": fid, "fid_low": fid - half, "fid_high": fid + half})
        head = repository.ok("git", "rev-parse", "HEAD").strip()
        repository.commit(name)
        commit = repository.ok("git", "rev-parse", "HEAD").strip()
        repository.ok("git", "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", commit)
        repository.ok("git", "reset", "--quiet", "--hard", head)
    (repository.path / "dvc.yaml").touch()
    write("evaluate", {"fid": 3.0, "fid_low": 2.8, "fid_high": 3.2})
    repository.commit("scored")

    def compare(*names: str) -> list[str]:
        command = ("python", "-m", "pttfaces", "history", *names)
        return repository.ok(*command, PYTHONPATH=str(PROJECT / "src")).splitlines()

    assert compare("good", "HEAD") == [
        "good  fid 2 (1.9 to 2.1)",
        "HEAD  fid 3 (2.8 to 3.2)",
        "good is better than HEAD.",
    ]
    assert compare("HEAD", "good")[-1] == "HEAD is worse than good."
    assert compare("close", "HEAD")[-1].startswith("The samples cannot tell which of close")
    Path("metrics/evaluate.json").unlink()
    repository.commit("unscored")
    ended = repository.run(
        *("python", "-m", "pttfaces", "history", "HEAD", "good"), PYTHONPATH=str(PROJECT / "src")
    )
    assert ended.returncode == 2
    assert "HEAD has no score" in ended.stderr


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="no ssh-keygen here")
def test_all_revisions_of_signed_commits_has_their_figures_where_git_shows_signatures(
    repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = tmp_path_factory.mktemp("key") / "signing"
    repository.ok("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    signers = key.with_name("signers")
    signers.write_text(f"test@localhost {key.with_suffix('.pub').read_text()}")
    for name, value in {
        "gpg.format": "ssh",
        "gpg.ssh.allowedSignersFile": str(signers),
        "user.signingKey": str(key),
        "commit.gpgSign": "true",
        "log.showSignature": "true",
    }.items():
        repository.ok("git", "config", name, value)
    write("evaluate", {"fid": 2.0})
    repository.commit("signed")
    shown = repository.run("git", "log", "-1", "--format=%H")
    assert "Good" in shown.stdout + shown.stderr
    assert experiment(repository, "brave-cod", 1.0)
    found = [(each.kind, each.evaluate.get("fid")) for each in revisions.all_revisions()]
    commits = [("commit", 2.0), ("commit", 3.0)]
    assert found == [("folder", 2.0), ("experiment", 1.0), *commits]


def test_all_revisions_in_another_user_s_folder_repeats_git_s_sentence_once(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own, for its tests
    assert [each.kind for each in revisions.all_revisions()] == ["folder"]
    said = capsys.readouterr().err
    assert said.startswith("warning: git: detected dubious ownership in repository at ")
    assert "git config --global --add safe.directory" in said
    assert said.count("\n") == 1
