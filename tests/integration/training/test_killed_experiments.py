"""A training that is killed in an experiment of DVC's resumes when the experiment is run again.

Real git and DVC, a real queue with its worker, the real stage on few small images.
"""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from repository import SMALL, Repository, make_repository

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name == "nt", reason="Windows keeps a killed clone's files open"),
]
PATIENCE_S = 300.0
CHANGES = ("train.epochs=12", "train.sample_every=12", "train.save_every_minutes=1e-9")
SETTINGS = (*(word for change in CHANGES for word in ("-S", change)), "train")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    made = make_repository(tmp_path_factory.mktemp("experiments"), SMALL)
    made.ok("dvc", "repro", "curate")
    made.commit("a data set")
    return made


@pytest.fixture(scope="module")
def undisturbed(repository: Repository) -> dict[str, object]:
    """The figures of the same training, which nobody killed."""
    repository.ok("dvc", "exp", "run", "--temp", "--name", "undisturbed", *SETTINGS)
    return figures(repository, "undisturbed")


@pytest.fixture(autouse=True)
def _nothing_done_before(repository: Repository, undisturbed: dict[str, object]) -> None:
    """Else the same training would be taken from what waits in .resume, or from DVC's run cache."""
    shutil.rmtree(repository.path / ".resume")
    shutil.rmtree(repository.path / ".dvc/cache/runs")


def figures(repository: Repository, experiment: str) -> dict[str, object]:
    names = repository.ok("git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    (ref,) = [name for name in names if name.endswith(f"/{experiment}")]
    written = repository.ok("git", "show", f"{ref}:metrics/train.json")
    return dict(json.loads(written))


def of_the_repository(repository: Repository) -> list[psutil.Process]:
    """The processes that work in it or in one of DVC's clones of it."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(repository.path.resolve()):
                found.append(process)
        except (psutil.Error, OSError):  # another's, or gone meanwhile
            continue
    return found


def kill_in_training(repository: Repository) -> None:
    """SIGKILL to all that works there, in mid-training: the stage, dvc, the queue's worker."""
    limit = time.monotonic() + PATIENCE_S
    while not any(repository.path.glob(".resume/train-*/state.pt")):
        assert time.monotonic() < limit, repository.ok("dvc", "queue", "status")
        time.sleep(0.005)
    doomed = of_the_repository(repository)
    for process in doomed:
        process.kill()
    psutil.wait_procs(doomed, PATIENCE_S)
    done = list(repository.path.glob(".resume/train-*/done.json"))
    assert not done, "it ended before it could be killed"


def start_queue(repository: Repository) -> None:
    """Without pipes: the worker would hold them, and one would wait for its end."""
    command = ("dvc", "queue", "start")
    place, environment = repository.path, repository.environment
    silent = subprocess.DEVNULL
    subprocess.run(command, cwd=place, env=environment, stdout=silent, stderr=silent, check=True)


def wait_for(repository: Repository, *states: str) -> str:
    """The queue's status, when no task is in one of the states any more."""
    limit = time.monotonic() + PATIENCE_S
    while any(state in (said := repository.ok("dvc", "queue", "status")) for state in states):
        assert time.monotonic() < limit, said
        time.sleep(1)
    return said


def check_that_it_resumed(
    repository: Repository, experiment: str, said: str, undisturbed: dict[str, object]
) -> None:
    """It began where it was killed, its model is the undisturbed one, bit for bit, and it has one
    run, which has ended well."""
    begun = re.search(r"train: (\d+) of", said)
    assert begun, said
    assert int(begun[1]) > 0
    assert figures(repository, experiment)["model_digest"] == undisturbed["model_digest"]
    client = MlflowClient(f"sqlite:///{(repository.path / 'mlflow.db').as_posix()}")
    runs = client.search_runs(["1"], f"tags.dvc_experiment = '{experiment}'")
    assert [run.info.status for run in runs] == ["FINISHED"]


def test_dvc_queue_when_killed_resumes_its_training(
    repository: Repository, undisturbed: dict[str, object]
) -> None:
    queue = ("dvc", "exp", "run", "--queue", "--name", "queued", *SETTINGS)
    repository.ok(*queue)
    start_queue(repository)
    try:
        kill_in_training(repository)
        repository.ok("dvc", "queue", "kill", "--force", "queued")  # its processes are dead
        assert "Failed" in wait_for(repository, "Queued", "Running")
        repository.ok(*queue)
        start_queue(repository)
        assert "Success" in wait_for(repository, "Queued", "Running")
        said = repository.ok("dvc", "queue", "logs", "queued")
    finally:
        repository.run("dvc", "queue", "stop", "--kill")
    check_that_it_resumed(repository, "queued", said, undisturbed)
