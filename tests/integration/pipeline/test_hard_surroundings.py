"""`make repro` where much is missing that a developer's machine has.

The programs are those of the environment that runs the tests, in place of an installation.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from repository import SMALL, STAGES, Repository, copy_project, put, ran

# Nine stages; a busy machine must not make it fail.
pytestmark = pytest.mark.timeout(600)

NOWHERE = "http://127.0.0.1:9"
BARE = {
    "PATH": os.environ["PATH"],
    "OMP_NUM_THREADS": "1",
    "LC_ALL": "C",
    **{f"{kind}_proxy": NOWHERE for kind in ("http", "https", "all")},
    **{f"{kind}_PROXY": NOWHERE for kind in ("HTTP", "HTTPS", "ALL")},
}
UNWRITABLE = "/dev/null/home"  # for root, too
ONLY_LOOPBACK = 'ip link set lo up && exec "$@"'


def offline() -> list[str]:
    """What a command begins with that is to have no network; nothing where that is not allowed,
    and the proxies at which nobody listens have to do."""
    prefix = ["unshare", "--map-root-user", "--net", "sh", "-c", ONLY_LOOPBACK, "sh"]
    if not shutil.which("unshare"):
        return []
    allowed = subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if allowed else []


def link_environment(place: Path) -> None:
    """Makes `place` the environment of the Python that runs the tests, installed just now."""
    place.mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        if (source := Path(sys.prefix) / name).exists():
            (place / name).symlink_to(source)
    (place / "installed").touch()


def make_repro(folder: Path, **environment: str) -> str:
    """What it says; with nothing in its environment but BARE and what is given."""
    ended = subprocess.run(
        [*offline(), "make", "repro"],
        cwd=folder,
        env=BARE | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout
    assert "Traceback" not in ended.stdout
    assert "MPLCONFIGDIR" not in ended.stdout
    return ended.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_repro_without_history_home_network_and_locale_runs(
    tmp_path: Path,
) -> None:
    """In a downloaded folder whose path has blanks and foreign letters."""
    folder = tmp_path / "Bilder – 臉 ü"
    copy_project(folder)
    put(folder / "params.yaml", {**SMALL, "demo.articles": 3, "train.epochs": 1})
    link_environment(folder / ".venv")
    repository = Repository(folder)

    said = make_repro(folder, HOME=UNWRITABLE)
    assert ran(said) == STAGES
    assert all(repository.metrics(stage)["seconds"] > 0 for stage in STAGES)
    assert repository.metrics("evaluate")["random_feature_distance"] > 0
    assert (folder / "report.html").exists()
    assert "up to date" in repository.ok("dvc", "status")
    assert repository.ok("git", "log", "--format=%s").splitlines() == ["As downloaded"]
    assert ".venv" not in repository.ok("git", "ls-files")

    shutil.rmtree(folder / ".git")
    repository.ok("git", "init", "--quiet")
    put(folder / "params.yaml", {"evaluate.max_copied": 0.5})
    assert ran(make_repro(folder)) == ["evaluate"], "in a repository without a commit"
    assert "up to date" in repository.ok("dvc", "status")

    store = MlflowClient(f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
    experiment = store.get_experiment_by_name("pttfaces")
    assert experiment is not None
    logged = store.search_runs([experiment.experiment_id])
    assert [run.data.tags["stage"] for run in logged] == ["evaluate", "evaluate", "train"]
    assert {run.info.status for run in logged} == {"FINISHED"}
    assert store.list_artifacts(logged[-1].info.run_id, "model")
