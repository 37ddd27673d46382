"""One light line that has run once, shared by the tests of the report and of the documents."""

import pytest
from light_line import run_light_line
from repository import Repository


@pytest.fixture(scope="session")
def light(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """In a folder with a space; with non-ASCII names DVC 3.67 cannot do --temp and --queue."""
    return run_light_line(tmp_path_factory.mktemp("PTT Faces"))
