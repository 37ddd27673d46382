"""Which models saw a picture, by what their trainings logged in a real MLflow database."""

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from pttfaces import config, files, tracking
from pttfaces.denylist import DenyList
from pttfaces.erasure import dvc_store
from pttfaces.erasure.findings import Findings, purge
from pttfaces.erasure.messages import what_is_kept, what_was_trained

FORGOTTEN, OTHER = "a" * 64, "b" * 64


def train(model: str, pictures: str | None) -> None:
    with tracking.training_run(config.load("params.yaml"), "data", Path(".resume") / model) as run:
        if pictures is not None:
            run.log_text(pictures, tracking.TRAINING_PICTURES)
        run.log_tags({"model_digest": model})


def test_a_training_is_found_by_the_pictures_that_it_logged(repository: Path) -> None:
    """Though DVC keeps no data set."""
    train("saw it", f"{OTHER[:16]}-0.png\n{FORGOTTEN[:16]}-1.png")
    train("did not", f"{OTHER[:16]}-0.png")
    train("does not say", None)
    with dvc_store.opened(repository) as kept:
        found = Findings(repository, kept, DenyList.of([f"sha256:{FORGOTTEN}"]), duplicate_bits=30)
    assert [run.model for run in found.models.runs] == ["saw it"]
    assert [run.model for run in found.models.unchecked] == ["does not say"]


def test_a_run_whose_artifacts_cannot_be_read_is_named_and_stops_nothing(
    repository: Path,
) -> None:
    """As where they lie in a bucket that this machine has no program, or no key, for."""
    train("may have seen it", f"{OTHER[:16]}-0.png")
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = 'nowhere://bucket'")
        database.commit()
    with dvc_store.opened(repository) as kept:
        found = Findings(repository, kept, DenyList.of([f"sha256:{FORGOTTEN}"]), duplicate_bits=30)
        assert [run.model for run in found.models.unchecked] == ["may have seen it"]
        (run,) = found.models.unchecked
        assert any(f"MLflow run {run.id} cannot be read" in line for line in what_is_kept(found))
        assert any("objects from" in line for line in purge(found))  # what can be cleaned, is


def test_commits_whose_data_set_nobody_has_any_more_are_named_unless_mlflow_tells(
    repository: Path,
) -> None:
    """As after a purge for somebody else, or in a clone that has not pulled."""

    def commit(name: str) -> str:
        Path("metrics").mkdir(exist_ok=True)
        Path("metrics/train.json").write_text(json.dumps({"model_digest": name}))
        files.write_text(
            "dvc.lock",
            "schema: '2.0'\nstages:\n  train:\n    cmd: x\n    deps:\n"
            f"    - path: data/dataset\n      md5: {files.digest_bytes(name.encode())[:32]}.dir\n"
            "    outs:\n"
            f"    - path: models/ddpm\n      md5: {'0' * 32}.dir\n"
            f"    - path: metrics/train.json\n      md5: {'1' * 32}\n",
        )
        git("add", "dvc.lock", "metrics")
        git("commit", "-m", name)
        return git("rev-parse", "HEAD").strip()

    def git(*words: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@x.test")
        command = ["git", *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init")
    hit, _clear, untold = (commit(name) for name in ("saw it", "did not", "nobody knows"))
    train("saw it", f"{FORGOTTEN[:16]}-1.png")
    train("did not", f"{OTHER[:16]}-0.png")
    with dvc_store.opened(repository) as kept:
        found = Findings(repository, kept, DenyList.of([f"sha256:{FORGOTTEN}"]), duplicate_bits=30)
    assert found.models.commits == [hit]
    assert found.models.untold == [untold[:8]]
    said = list(what_was_trained(found))
    assert any("cannot be checked" in line for line in said)
    assert not any("this folder" in line for line in said)
    assert any(untold[:8] in line for line in said)
    lock = Path("dvc.lock").read_text()
    files.write_text("dvc.lock", lock.replace("0" * 32, "2" * 32))  # trained, and not committed
    Path("metrics/train.json").write_text(json.dumps({"model_digest": "only here"}))
    with dvc_store.opened(repository) as kept:
        found = Findings(repository, kept, DenyList.of([f"sha256:{FORGOTTEN}"]), duplicate_bits=30)
    assert found.models.untold == [untold[:8], "this folder"]


def test_in_a_copy_of_the_folder_its_own_pictures_go_and_not_those_of_the_first(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("nearest.png").write_bytes(b"two faces")
    with tracking.training_run(config.load("params.yaml"), "data", Path("run")) as run:
        run.log_text(f"{FORGOTTEN[:16]}-1.png", tracking.TRAINING_PICTURES)
        run.log_tags({"model_digest": "saw it"})
        run.log_picture("nearest.png", "nearest.png")
    copy = tmp_path_factory.mktemp("copy") / "of it"
    shutil.copytree(repository, copy)
    monkeypatch.chdir(copy)
    place = Path("mlruns", run.id, "artifacts/nearest.png")
    assert (copy / place).exists()
    with dvc_store.opened(copy) as kept:
        found = Findings(copy, kept, DenyList.of([f"sha256:{FORGOTTEN}"]), duplicate_bits=30)
        assert "  1 artifacts of MLflow that may show them" in what_is_kept(found)
        assert "deleted 1 artifacts of MLflow that may show them" in purge(found)
    assert not (copy / place).exists()
    assert (repository / place).exists()
