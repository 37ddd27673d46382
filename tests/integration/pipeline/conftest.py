"""One repository in which the whole line has run, shared by the tests of this folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import SMALL, STAGES, Repository, copy_project, put, ran

SECRET = "s3cr3t-of-mine"
NOWHERE = "http://127.0.0.1:9"
BARE = {
    "PATH": os.environ["PATH"],
    "HOME": "/dev/null/home",  # not writable, not even for root
    "OMP_NUM_THREADS": "1",
    "LC_ALL": "C",
    **{f"{kind}_proxy": NOWHERE for kind in ("http", "https", "all")},
    **{f"{kind}_PROXY": NOWHERE for kind in ("HTTP", "HTTPS", "ALL")},
    **dict.fromkeys(("IMGUR_CLIENT_ID", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"), SECRET),
}
ONLY_LOOPBACK = 'ip link set lo up && exec "$@"'


@pytest.fixture(scope="session")
def secret() -> str:
    """What stood in the environment, and in the address of git's remote, while the line ran."""
    return SECRET


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, str]:
    """A repository after `make repro`, and what that said.

    It ran where much is missing that a developer's machine has: no network, no home, no locale, no
    commit; in a folder whose path has blanks and foreign letters. The programs are those of the
    environment that runs the tests, in place of an installation.
    """
    repository = Repository(tmp_path_factory.mktemp("line") / "Bilder – 臉 ü")
    copy_project(repository.path)
    put(repository.path / "params.yaml", SMALL)
    repository.ok("git", "init", "--quiet")
    repository.ok("git", "remote", "add", "origin", f"https://me:{SECRET}@git.test/faces.git")
    if not shutil.which("make"):  # Windows
        return repository, repository.ok("dvc", "repro")
    link_environment(repository.path / ".venv")
    ended = subprocess.run(
        [*offline(), "make", "repro"],
        cwd=repository.path,
        env=BARE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout
    return repository, ended.stdout


@pytest.fixture(scope="session")
def line(first_run: tuple[Repository, str]) -> Repository:
    """Committed after its first run."""
    repository, said = first_run
    assert ran(said) == STAGES
    repository.commit("first run")
    return repository


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
