"""One repository in which the whole line has run, shared by the tests of this folder."""

import pytest
from repository import SMALL, STAGES, Repository, make_repository, ran

SECRET = "s3cr3t-of-mine"


@pytest.fixture(scope="session")
def secret() -> str:
    """What stood in the environment, and in the address of git's remote, while the line ran."""
    return SECRET


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Committed after its first `dvc repro`."""
    repository = make_repository(tmp_path_factory.mktemp("line"), SMALL)
    repository.ok("git", "remote", "add", "origin", f"https://me:{SECRET}@git.test/faces.git")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("IMGUR_CLIENT_ID", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, SECRET)
        assert ran(repository.ok("dvc", "repro")) == STAGES
    repository.commit("first run")
    return repository
