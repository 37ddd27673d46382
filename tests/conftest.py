"""For all tests: no deadlines, whole files per worker, and one thread per worker.

Threads of several workers on two cores would mostly wait for each other. Child processes inherit
this.
"""

import os
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
LONGEST = ["torture", "report", "documents", "pipeline", "tracking", "training"]

for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(library, "1")  # before torch and numpy are imported
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` the tests of a file run on one worker, since they share what is
    expensive to make; so do all tests of the repositories `line` and `light`. The longest come
    first and unit tests last, or one worker would be left with a whole pipeline at the end."""
    items.sort(key=lambda item: _place(item.path))
    for item in items:
        shared = {"line", "light"}.intersection(getattr(item, "fixturenames", ()))
        group = shared.pop() if shared else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))


def _place(path: Path) -> tuple[bool, int]:
    kind, folder = path.relative_to(TESTS).parts[0], path.parent.name
    return kind == "unit", LONGEST.index(folder) if folder in LONGEST else len(LONGEST)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A short name for a long value: xdist sends the names of all tests to each worker."""
    return f"long {argname}" if isinstance(val, str | bytes) and len(val) > 200 else None
