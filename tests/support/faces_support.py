"""Drawn portraits and a working folder as download leaves it, for tests of detect to curate."""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pttfaces import files, tables
from pttfaces.demo import drawing
from pttfaces.tables import Article, LedgerRow

PRESETS = Path(__file__).resolve().parents[2] / "presets"


@dataclass(frozen=True)
class Portrait:
    """pixels: (H, W, 3) uint8; landmarks: (5, 2), the true ones."""

    pixels: np.ndarray
    landmarks: np.ndarray

    def png(self) -> bytes:
        return encoded(Image.fromarray(self.pixels), "PNG")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def draw(seed: int, size: tuple[int, int] = (400, 480)) -> Portrait:
    rng = np.random.default_rng([2024, seed])
    drawn = drawing.portrait(drawing.Person.random(rng), rng, size)
    return Portrait(np.asarray(drawn.image.convert("RGB")), drawn.landmarks[0])


@pytest.fixture(scope="session")
def portraits() -> list[Portrait]:
    """Twelve drawn faces."""
    return [draw(seed) for seed in range(12)]


@dataclass(frozen=True)
class Posted:
    """An image on the board: its bytes, the article it is in ("" for the inbox), its address."""

    content: bytes
    article: str
    url: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def ledger_row(image: str, sha256: str, article: str = "", url: str = "") -> LedgerRow:
    """A row of an image below data/raw, or of a failed link (image: "")."""
    unknown: dict[str, Any] = dict.fromkeys(
        ("position", "attempts", "http_status", "bytes", "width", "height")
    )
    texts: dict[str, Any] = dict.fromkeys(("status", "error", "final_url", "format"), "")
    place = "inbox" if url.startswith("inbox:") else "body"
    return LedgerRow(
        article=article, place=place, url=url, sha256=sha256, path=image, **unknown, **texts
    )


Workspace = Callable[..., Path]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Makes a working folder as download leaves it, and goes there."""

    def make(posted: list[Posted], preset: str = "demo", **changes: tuple[str, str]) -> Path:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("DVC_ROOT", raising=False)
        rows, articles = [], {}
        for image in posted:
            path = f"{image.sha256[:2]}/{image.sha256}.png"
            files.write_bytes(tmp_path / "data/raw" / path, image.content)
            rows.append(ledger_row(path, image.sha256, image.article, image.url))
            if image.article:
                author = f"by{image.article}"
                articles[image.article] = Article(image.article, "", "", author, "2024-01-01", 0)
        tables.write("data/ledger.csv", rows, LedgerRow)
        tables.write_jsonl("data/articles.jsonl", articles.values())
        text = (PRESETS / f"{preset}.yaml").read_text("utf-8")
        for old, new in changes.values():
            assert old in text
            text = text.replace(old, new, 1)
        files.write_text("params.yaml", text)
        return tmp_path

    return make
