"""Drawn pictures and a working folder for the stages of the faces room."""

import hashlib
from pathlib import Path

import pytest
from faces_support import Portrait, Posted, Workspace, draw

from pttfaces import files, tables

LEDGER_COLUMNS = ("article", "position", "place", "url", "status", "sha256", "path")


@pytest.fixture(scope="session")
def portraits() -> list[Portrait]:
    """Twelve drawn faces."""
    return [draw(seed) for seed in range(12)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Makes a working folder as download leaves it, and goes there."""

    def make(posted: list[Posted], preset: str = "demo", **changes: str) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        rows, articles, seen = [], {}, set()
        for picture in posted:
            sha256 = hashlib.sha256(picture.content).hexdigest()
            path = f"{sha256[:2]}/{sha256}.png"
            files.write_bytes(tmp_path / "data/raw" / path, picture.content)
            row = {"article": picture.article, "url": picture.url, "sha256": sha256, "path": path}
            rows.append(row | {"status": "duplicate" if sha256 in seen else "ok"})
            seen.add(sha256)
            if picture.article:
                articles[picture.article] = {
                    "id": picture.article,
                    "author": f"by{picture.article}",
                }
        tables.write_dicts("data/ledger.csv", rows, LEDGER_COLUMNS)
        files.write_jsonl("data/articles.jsonl", articles.values())
        text = (Path(__file__).parents[2] / "presets" / f"{preset}.yaml").read_text("utf-8")
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new, 1)
        files.write_text("params.yaml", text)
        return tmp_path

    return make
