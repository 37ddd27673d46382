"""A bare repository to erase in."""

from pathlib import Path

import pytest
from dvc.repo import Repo
from settings import PRESET


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository without a data set, and no MLflow store yet."""
    (tmp_path / "params.yaml").write_bytes(PRESET.read_bytes())
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    Repo.init(str(tmp_path), no_scm=True)
    return tmp_path
