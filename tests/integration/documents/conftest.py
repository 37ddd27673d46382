"""One light line that has run once, shared by the tests of the documents."""

import pytest
from light_line import make_light_line
from repository import STAGES, Repository, ran


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """In a folder with a space; with non-ASCII names DVC 3.67 cannot do --temp and --queue."""
    made = make_light_line(tmp_path_factory.mktemp("PTT Faces"))
    assert ran(made.ok("dvc", "repro")) == STAGES
    made.commit("first run")
    return made
