"""Made-up candidates and the filter's options, for the tests of the package curation."""

from dataclasses import replace
from typing import Any

import numpy as np
import settings
from faces_support import ledger_row

from pttfaces import config
from pttfaces.curation import duplicates, filters, splits
from pttfaces.curation.candidates import Candidate, Provenance, make_candidates
from pttfaces.denylist import DenyList
from pttfaces.faces import quality
from pttfaces.tables import Article, CropRow, DatasetRow

NOBODY = DenyList()
BLUR_THRESHOLD = 100.0
USUAL = CropRow("", "", 0, 500.0, 200.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, "")


def candidate(number: int, article: str = "M.1704074641.A.001", **columns: Any) -> Candidate:
    """A crop that looks like no other, of a separate image; columns: of `CropRow`."""
    source = Provenance(article, f"by-{article}", f"https://i.example/{number}.jpg")
    names = {"crop": f"{number:016x}-0.png", "phash": look(f"{2 ** (number % 200):064x}")}
    crop = replace(USUAL, **names | columns)
    return Candidate(crop, f"{number:064x}", (source,), crop.sharpness)


def look(phash: str) -> str:
    """A crop's hashes, of which both are this one."""
    return phash * quality.HASHES


def changed(one: Candidate, **columns: Any) -> Candidate:
    """The candidate with other columns of its crop."""
    crop = replace(one.crop, **columns)
    return replace(one, crop=crop, sharpness=crop.sharpness)


def params(blur_threshold: float = BLUR_THRESHOLD, **changes: Any) -> config.Params:
    """Parameters whose group `curate` asks for nothing but what is changed."""
    without_limits: dict[str, Any] = {"duplicate_bits": 0, "max_outside": None}
    group = settings.group("curate", **without_limits | changes)
    return settings.params(curate=group, blur_threshold=blur_threshold)


def denied_by(deny: DenyList, candidates: list[Candidate]) -> list[Candidate]:
    """The candidates as the stage has them with that deny list."""
    crops, ledger, articles = [], [], []
    for number, one in enumerate(candidates):
        crops.append(replace(one.crop, image=f"{number}.jpg"))
        for source in one.sources:
            ledger.append(ledger_row(f"{number}.jpg", one.sha256, source.article, source.url))
            articles.append(Article(source.article, "", "", source.author, "", 0))
    made = make_candidates(crops, ledger, articles, deny)
    return [replace(one, reason=found.reason) for one, found in zip(candidates, made, strict=True)]


def filtered(
    candidates: list[Candidate],
    deny: DenyList = NOBODY,
    blur_threshold: float = BLUR_THRESHOLD,
    **changes: Any,
) -> list[DatasetRow]:
    chosen = params(blur_threshold, **changes)
    copies = copies_of(candidates, chosen.curate.duplicate_bits)
    return filters.filter_crops(denied_by(deny, candidates), chosen, copies)


def copies_of(candidates: list[Candidate], bits: int | None) -> np.ndarray:
    return duplicates.find_copies([one.crop.phash for one in candidates], bits)


def grouped(candidates: list[Candidate], deny: DenyList = NOBODY, bits: int = 0) -> dict[str, str]:
    return splits.group_crops(denied_by(deny, candidates), copies_of(candidates, bits))
