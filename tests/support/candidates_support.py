"""Made-up candidates and the filter's options, for the tests of the package curation."""

from dataclasses import replace
from typing import Any

import settings

from pttfaces.curation import filters, splits
from pttfaces.curation.candidates import Candidate, Provenance
from pttfaces.denylist import DenyList
from pttfaces.tables import CropRow, DatasetRow

NOBODY = DenyList()
BLUR_THRESHOLD = 100.0
USUAL = CropRow("", "", 0, 500.0, 200.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, "")


def candidate(number: int, article: str = "M.1704074641.A.001", **quality: Any) -> Candidate:
    """A crop that looks like no other, of a separate image; quality: columns of `CropRow`."""
    source = Provenance(article, f"by-{article}", f"https://i.example/{number}.jpg")
    names = {"crop": f"{number:016x}-0.png", "phash": f"{2 ** (number % 200):064x}"}
    return Candidate(replace(USUAL, **names | quality), f"{number:064x}", (source,))


def changed(one: Candidate, **columns: Any) -> Candidate:
    """The candidate with other columns of its crop."""
    return replace(one, crop=replace(one.crop, **columns))


def options(**changes: Any) -> Any:
    """The group `curate`, asking for nothing but what is changed."""
    return settings.group("curate", **{"duplicate_bits": 0} | changes)


def filtered(
    candidates: list[Candidate],
    deny: DenyList = NOBODY,
    blur_threshold: float = BLUR_THRESHOLD,
    **changes: Any,
) -> list[DatasetRow]:
    return filters.filter_crops(candidates, options(**changes), blur_threshold, deny)


def grouped(candidates: list[Candidate], rows: list[DatasetRow], bits: int = 0) -> dict[str, str]:
    return splits.group_crops(candidates, rows, bits)
