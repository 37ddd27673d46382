"""For all tests: a slow machine is no failure, several workers share out whole files, and each has
one thread, also in what it starts: threads of two workers on two cores mostly wait for each other.
"""

import os

import pytest
from hypothesis import settings

WHOLE_LINES = {"pipeline", "torture", "history", "report", "tracking"}

for library in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(library, "1")  # before torch and numpy are imported
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `-n 2 --dist loadgroup` a file's tests stay together, since they share what is dear to
    make; those of tests/pipeline share one repository. The folders whose tests run the whole line
    come first, or one worker would be left alone with them at the end."""
    items.sort(key=lambda item: item.path.parent.name not in WHOLE_LINES)
    for item in items:
        folder = item.path.parent.name
        group = folder if folder == "pipeline" else item.path.name
        item.add_marker(pytest.mark.xdist_group(group))
