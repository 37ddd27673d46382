"""A training that is killed in an experiment of DVC's resumes when the experiment is run again.

Real git and DVC, a real queue with its worker, the real stage on few small images.
"""

import os
import re
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import tiny_training as tiny
from mlflow import MlflowClient
from repository import SMALL, Repository, make_repository
from ruamel.yaml import YAML

from pttfaces import manifest

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name == "nt", reason="Windows keeps a killed clone's files open"),
]
PATIENCE_S = 300.0
CHANGES = ("train.epochs=12", "train.sample_every=12", "train.save_every_minutes=1e-9")
SETTINGS = (*(word for change in CHANGES for word in ("-S", change)), "train")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """The real stage train alone, on a data set that a person added."""
    made = make_repository(tmp_path, SMALL)
    yaml = YAML()
    stages = yaml.load(tmp_path / "dvc.yaml")["stages"]
    yaml.dump({"stages": {"train": stages["train"]}}, tmp_path / "dvc.yaml")
    (tmp_path / "data/inputs.dvc").unlink()
    dataset = tmp_path / "data/dataset"
    tiny.draw_sets(dataset, 22, 7)
    manifest.write_manifest(dataset)
    made.ok("dvc", "add", "--quiet", "data/dataset")
    made.commit("a data set")
    return made


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
        time.sleep(3)  # asking takes a second of the processor
    return said


def test_dvc_queue_when_killed_resumes_its_training(repository: Repository) -> None:
    """It begins where it was killed, and has one run, which ends well."""
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
    begun = re.search(r"train: (\d+) of", said)
    assert begun, said
    assert int(begun[1]) > 0
    client = MlflowClient(f"sqlite:///{(repository.path / 'mlflow.db').as_posix()}")
    runs = client.search_runs(["1"], "tags.dvc_experiment = 'queued'")
    assert [run.info.status for run in runs] == ["FINISHED"]
