"""Every way of running a stage keeps its history: real git and DVC repositories, a real queue.

The pipeline is one stage here, which logs a training as train does, and trains nothing.
"""

import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from mlflow import MlflowClient
from repository import Repository, put
from small_pipeline import make_small_pipeline

from pttfaces.errors import DataError

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return make_small_pipeline(tmp_path_factory.mktemp("ways"), "train", register=False)


@pytest.fixture(scope="module")
def aside(repository: Repository) -> str:
    """The name of an experiment that ran in a temporary clone, with the seed 5."""
    repository.ok("dvc", "exp", "run", "--temp", "--name", "aside", "-S", "seed=5")
    assert not list((repository.path / ".dvc/tmp/exps").rglob("params.yaml"))  # the clone is gone
    return "aside"


def runs(repository: Repository) -> dict[str, Any]:
    """Seed → its run; no seed has two."""
    client = store(repository)
    experiment = client.get_experiment_by_name("pttfaces")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    by_seed = {run.data.params["seed"]: run for run in found}
    assert len(by_seed) == len(found)
    return by_seed


def store(repository: Repository) -> MlflowClient:
    return MlflowClient(f"sqlite:///{(repository.path / 'mlflow.db').as_posix()}")


def experiments(repository: Repository) -> dict[str, str]:
    """Name → commit of every experiment that has ended."""
    listed = repository.ok("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps")
    rows = (line.split() for line in listed.splitlines())
    return {name.split("/")[4]: commit for name, commit in rows if name.count("/") == 4}


def check(repository: Repository, run: Any, seed: int) -> None:
    """A run is whole: ended well, and its model opens."""
    assert run.info.status == "FINISHED"
    (logged,) = run.outputs.model_outputs
    location = store(repository).get_logged_model(logged.model_id).artifact_location
    assert Path(url2pathname(urlsplit(location).path), "weights.bin").read_text() == f"seed {seed}"
    assert run.info.artifact_uri.startswith((repository.path / "mlruns").as_uri())


def test_dvc_queue_of_two_workers_without_a_store_logs_every_run(
    repository: Repository,
) -> None:
    repository.ok("dvc", "exp", "run", "--queue", "-S", "seed=1,2")
    assert not (repository.path / "mlflow.db").exists()
    repository.ok("dvc", "queue", "start", "-j", "2")
    try:
        deadline = time.monotonic() + 600
        while len(experiments(repository)) < 2:
            assert time.monotonic() < deadline, repository.ok("dvc", "queue", "status")
            time.sleep(1)
    finally:
        repository.run("dvc", "queue", "stop")
    head = repository.ok("git", "rev-parse", "HEAD").strip()
    found = runs(repository)
    assert sorted(found) == ["1", "2"]
    for seed, run in found.items():
        check(repository, run, int(seed))
        assert run.data.tags["dvc_baseline"] == head
    assert {run.data.tags["dvc_experiment"] for run in found.values()} == set(
        experiments(repository)
    )


def test_dvc_exp_run_dvc_repro_and_the_script_share_the_store(
    repository: Repository, aside: str
) -> None:
    repository.ok("dvc", "exp", "run", "--name", "here", "-S", "seed=6")
    put(repository.path / "params.yaml", {"seed": 7})
    repository.ok("dvc", "repro")
    put(repository.path / "params.yaml", {"seed": 8})
    repository.ok("python", "src/train.py")
    found = runs(repository)
    for seed in (5, 6, 7, 8):
        check(repository, found[str(seed)], seed)
    assert found["5"].data.tags["dvc_experiment"] == aside
    assert found["6"].data.tags["dvc_experiment"] == "here"
    assert "dvc_experiment" not in found["7"].data.tags


def test_dvc_exp_run_that_fails_logs_a_failed_run_with_the_reason(repository: Repository) -> None:
    ended = repository.run("dvc", "exp", "run", "--temp", "-S", "seed=13")
    assert ended.returncode != 0
    run = runs(repository)["13"]
    assert (run.info.status, run.data.tags["reason"]) == ("FAILED", "thirteen")


def test_dvc_repro_in_a_fresh_clone_starts_its_own_history(
    repository: Repository, aside: str, tmp_path: Path
) -> None:
    """Whatever the clone's path."""
    before = set(runs(repository))
    repository.ok("git", "clone", "--quiet", ".", str(tmp_path / "a clone 臉"))
    clone = Repository(tmp_path / "a clone 臉")
    clone.ok("dvc", "repro")
    (run,) = runs(clone).values()
    check(clone, run, int(run.data.params["seed"]))
    assert set(runs(repository)) == before


def test_history_leads_from_a_run_to_its_experiment_and_back(
    repository: Repository, aside: str
) -> None:
    run = runs(repository)["5"]
    listed = repository.pttfaces("history")
    assert any(run.info.run_id[:8] in line and "aside" in line for line in listed.splitlines())
    said = repository.pttfaces("history", run.info.run_id[:8])
    assert "result in   experiment aside" in said
    assert f"model       {run.data.tags['model_digest']}" in said
    assert "restore     dvc exp apply aside" in said
    (command,) = [
        line.removeprefix("model only").split()
        for line in said.splitlines()
        if line.startswith("model only")
    ]
    repository.ok(*command)
    brought = next((repository.path / "from_mlflow").rglob("weights.bin"))
    assert brought.read_text() == "seed 5"

    assert run.info.run_id in repository.pttfaces("history", "aside")
    repository.ok("git", "checkout", "--quiet", ".")
    repository.ok("dvc", "exp", "apply", "aside")
    weights = repository.path / "models/ddpm/best_model/weights.bin"
    assert weights.read_text() == "seed 5"
    assert "nothing to do" in repository.pttfaces("history", run.info.run_id[:8])
    with pytest.raises(DataError, match="nonesuch is not an experiment, commit or run"):
        repository.pttfaces("history", "nonesuch")
