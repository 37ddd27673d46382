"""Traces every crop to the articles and local files that its image comes from."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pttfaces.errors import DataError
from pttfaces.faces.quality import HASH_BITS, HASHES
from pttfaces.tables import Article, CropRow, LedgerRow

_INBOX = "inbox:"
# A table of version 0.2 has only the whole crop's hash.
HASH = re.compile("|".join(rf"[0-9a-f]{{{n * HASH_BITS // 4}}}" for n in (HASHES, 1)))


@dataclass(frozen=True)
class Provenance:
    """A place where an image was found; all but the url are "" for a file in data/inbox."""

    article: str
    author: str
    url: str
    board: str = ""
    date: str = ""

    @property
    def group(self) -> str:
        """What is never split between training and hold-out: an article, or a sub-folder of the
        inbox; an image directly in the inbox is its own group."""
        if self.article:
            return f"article:{self.article}"
        path = PurePosixPath(self.url.removeprefix(_INBOX))
        return self.url if len(path.parts) < 2 else f"{_INBOX}{path.parts[0]}/"


@dataclass(frozen=True)
class Candidate:
    """A crop that may join the data set, and where its image comes from.

    sha256: of the image; sources: every place where it was found, the first one first; sharpness:
    what blur_threshold limits; colour: as `quality.colour`, None where it is not measured.
    """

    crop: CropRow
    sha256: str
    sources: tuple[Provenance, ...]
    sharpness: float
    colour: float | None = None


def make_candidates(
    crops: Sequence[CropRow], ledger: Iterable[LedgerRow], articles: Iterable[Article]
) -> list[Candidate]:
    """Every crop with its sources, in the order of the crops, without faces that have no crop.

    DataError: a damaged hash.
    """
    crops = [crop for crop in crops if not crop.reason]
    by_id = {article.id: article for article in articles}
    sources: dict[str, list[Provenance]] = {}
    digests: dict[str, str] = {}
    for row in ledger:
        if row.path:
            source = Provenance(row.article, "", row.url)
            if article := by_id.get(row.article):
                source = Provenance(
                    article.id, article.author, row.url, article.board, article.date
                )
            sources.setdefault(row.path, []).append(source)
            digests[row.path] = row.sha256
    length = max((len(crop.phash) for crop in crops), default=0)
    if damaged := [
        crop.phash for crop in crops if not HASH.fullmatch(crop.phash) or len(crop.phash) != length
    ]:
        raise DataError(
            f"data/crops.csv has {damaged[0]!r} for a perceptual hash; delete it and run "
            "`dvc repro`."
        )
    return [
        Candidate(
            crop,
            digests.get(crop.image, ""),
            tuple(sources.get(crop.image, [Provenance("", "", "")])),
            crop.sharpness,
        )
        for crop in crops
    ]
