"""Traces every crop to the articles and local files that its image comes from."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pttfaces.denylist import DenyList
from pttfaces.errors import DataError
from pttfaces.faces.quality import HASH_BITS, HASHES
from pttfaces.tables import Article, CropRow, LedgerRow

DENIED, NO_FACE_AGAIN = "denied", "no face when cropped again"

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
    what blur_threshold limits; colour: as `quality.colour`, None where it is not measured; reason:
    why it stays out whatever its quality, DENIED or NO_FACE_AGAIN.
    """

    crop: CropRow
    sha256: str
    sources: tuple[Provenance, ...]
    sharpness: float
    colour: float | None = None
    reason: str = ""


def make_candidates(
    crops: Iterable[CropRow],
    ledger: Iterable[LedgerRow],
    articles: Iterable[Article],
    deny: DenyList,
) -> list[Candidate]:
    """Every crop with its sources, in the order of the crops, without faces that have no crop.

    A crop is denied if it, its image or any source of its image is. DataError: a damaged hash.
    """
    by_id = {article.id: article for article in articles}
    images: dict[str, tuple[str, list[Provenance]]] = {}  # path → digest, sources
    for row in ledger:
        source = Provenance(row.article, "", row.url)
        if article := by_id.get(row.article):
            source = Provenance(article.id, article.author, row.url, article.board, article.date)
        images.setdefault(row.path, (row.sha256, []))[1].append(source)
    found = []
    for crop in crops:
        if not crop.reason:
            sha256, sources = images.get(crop.image, ("", [Provenance("", "", "")]))
            is_denied = deny.denies(sha256=sha256, crop=crop.crop) or any(
                deny.denies(article=source.article, author=source.author, url=source.url)
                for source in sources
            )
            reason = DENIED if is_denied else ""
            found.append(Candidate(crop, sha256, tuple(sources), crop.sharpness, reason=reason))
    length = max((len(each.crop.phash) for each in found), default=0)
    for phash in (each.crop.phash for each in found):
        if not HASH.fullmatch(phash) or len(phash) != length:
            raise DataError(
                f"data/crops.csv has {phash!r} for a perceptual hash; delete it and run "
                "`dvc repro`."
            )
    return found
