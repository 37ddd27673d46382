"""For all tests: no deadlines, whole files per worker, and one thread per worker.

Threads of two workers on two cores would mostly wait for each other; child processes inherit this.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

UNIT = Path(__file__).parent / "unit"

for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(library, "1")  # before torch and numpy are imported
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n 2 --dist loadgroup` the tests of a file run on one worker, since they share what is
    expensive to make; so do all tests of the repository `line`. Unit tests come last, or one worker
    would be left alone with a whole pipeline at the end."""
    items.sort(key=lambda item: UNIT in item.path.parents)
    for item in items:
        shares_line = "line" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("line" if shares_line else item.path.name))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A short name for a long value: xdist sends the names of all tests to each worker."""
    return f"long {argname}" if isinstance(val, str | bytes) and len(val) > 200 else None
