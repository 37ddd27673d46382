"""Which models saw an image, by what their trainings logged in a real MLflow database."""

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import settings

from pttfaces import files, mlflow_store, tracking
from pttfaces.denylist import DenyList
from pttfaces.erasure import dvc_store, messages
from pttfaces.erasure.findings import Findings, purge

FORGOTTEN, OTHER = "a" * 64, "b" * 64
DENIED = DenyList.of([f"sha256:{FORGOTTEN}"])


def train(model: str, images: str | None) -> None:
    with tracking.training_run(settings.demo(), "data", Path(".resume") / model) as run:
        if images is not None:
            run.log_text(images, "training_pictures.txt")
        run.log_tags({"model_digest": model})


def test_a_training_is_found_by_the_images_that_it_logged(repository: Path) -> None:
    """DVC stores no data set."""
    train("saw it", f"{OTHER[:16]}-0.png\n{FORGOTTEN[:16]}-1.png")
    train("did not", f"{OTHER[:16]}-0.png")
    train("does not say", None)
    with dvc_store.open_store(repository) as store:
        found = Findings(repository, store, DENIED)
    assert found.models.saw == {"saw it": True, "did not": False}
    ids = {run.data.tags["model_digest"]: run.info.run_id for run in found.models.runs.values()}
    printed = "\n".join(messages.models(found))
    trained, unchecked = printed.split("MLflow runs that cannot be checked")
    assert ids["saw it"] in trained
    assert ids["does not say"] in unchecked
    assert ids["did not"] not in printed


def test_a_run_whose_artifacts_cannot_be_read_is_named_and_stops_nothing(
    repository: Path,
) -> None:
    """Such as artifacts in a bucket that this machine has no client, or no key, for."""
    train("may have seen it", f"{OTHER[:16]}-0.png")
    with closing(sqlite3.connect("mlflow.db")) as database:
        database.execute("UPDATE runs SET artifact_uri = 'nowhere://bucket'")
        database.commit()
    with dvc_store.open_store(repository) as store:
        found = Findings(repository, store, DENIED)
        assert found.models.saw == {}
        (run,) = (run.info.run_id for run in found.models.runs.values())
        assert any(f"MLflow run {run} cannot be read" in line for line in messages.stored(found))
        assert any("objects from" in line for line in purge(found))  # what can be cleaned, is


def test_commits_whose_data_set_is_gone_are_named_unless_mlflow_has_its_list(
    repository: Path,
) -> None:
    """After a purge of other images, or in a clone that has not pulled."""

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
    exposed, _clear, unchecked = (commit(name) for name in ("saw it", "did not", "unknown"))
    train("saw it", f"{FORGOTTEN[:16]}-1.png")
    train("did not", f"{OTHER[:16]}-0.png")
    with dvc_store.open_store(repository) as store:
        found = Findings(repository, store, DENIED)
    lines = list(messages.models(found))
    short = git("rev-parse", "--short", unchecked).strip()
    assert f"commits whose model was trained on them: {exposed[:8]}" in lines
    assert (
        f"  {short}" in lines[[line.startswith("experiments and") for line in lines].index(True) :]
    )
    assert not any("this folder" in line for line in lines)
    lock = Path("dvc.lock").read_text()
    files.write_text("dvc.lock", lock.replace("0" * 32, "2" * 32))  # trained, but not committed
    Path("metrics/train.json").write_text(json.dumps({"model_digest": "only here"}))
    with dvc_store.open_store(repository) as store:
        found = Findings(repository, store, DENIED)
    assert f"  this folder {short}" in list(messages.models(found))


def test_models_of_mlflow_are_listed_with_commands_that_delete_their_files(
    repository: Path,
) -> None:
    """Also one whose run is gone, which nobody can check any more."""
    Path("best_model").mkdir()
    Path("best_model/weights.bin").write_bytes(b"weights")
    for model, image in (("saw it", FORGOTTEN), ("lost its run", FORGOTTEN), ("did not", OTHER)):
        with tracking.training_run(settings.demo(), "data", Path(".resume") / model) as run:
            run.log_text(f"{image[:16]}-0.png", "training_pictures.txt")
            run.log_model(Path("best_model"), model, register=False)
        if model == "lost its run":
            command("mlflow", "runs", "delete", "--run-id", run.id)
            command("mlflow", "gc", *STORE, "--run-ids", run.id)
    with dvc_store.open_store(repository) as store:
        printed = list(messages.models(Findings(repository, store, DENIED)))
    assert any(line.startswith("MLflow models that cannot be checked") for line in printed)
    assert len(list(repository.glob("mlruns/models/*/artifacts/weights.bin"))) == 3
    for line in printed:
        if line.startswith("    "):
            command(*shlex.split(line))
    assert len(list(repository.glob("mlruns/models/*/artifacts/weights.bin"))) == 2
    (left,) = (run for run in mlflow_store.all_runs())
    assert left.data.tags["model_digest"] == "did not"


STORE = ("--backend-store-uri", "sqlite:///mlflow.db", "--tracking-uri", "sqlite:///mlflow.db")


def command(program: str, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run([program, *arguments], check=True, env={**os.environ, "PATH": path})


@pytest.mark.parametrize("trained_there", [False, True])
def test_in_a_copy_of_the_folder_only_the_copy_s_images_are_deleted(
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    trained_there: bool,
) -> None:
    """A training in the copy renames the experiment of the runs that saw the image."""
    Path("nearest.png").write_bytes(b"two faces")
    with tracking.training_run(settings.demo(), "data", Path("run")) as run:
        run.log_text(f"{FORGOTTEN[:16]}-1.png", "training_pictures.txt")
        run.log_tags({"model_digest": "saw it"})
        run.log_file("nearest.png")
    copy = tmp_path_factory.mktemp("copy") / "of it"
    shutil.copytree(repository, copy)
    monkeypatch.chdir(copy)
    if trained_there:
        train("did not", f"{OTHER[:16]}-0.png")
    artifact = Path("mlruns", run.id, "artifacts/nearest.png")
    assert (copy / artifact).exists()
    with dvc_store.open_store(copy) as store:
        found = Findings(copy, store, DENIED)
        assert "  1 artifacts of MLflow that may show them" in messages.stored(found)
        assert "deleted 1 artifacts of MLflow that may show them" in purge(found)
    assert not (copy / artifact).exists()
    assert (repository / artifact).exists()
