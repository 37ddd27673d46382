"""Made-up candidates and the filter's options, for the tests of the package curation."""

from dataclasses import replace
from typing import Any

import numpy as np
import settings

from pttfaces.curation import duplicates, filters, splits
from pttfaces.curation.candidates import Candidate, Provenance
from pttfaces.denylist import DenyList
from pttfaces.faces import quality
from pttfaces.tables import CropRow, DatasetRow

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


def options(**changes: Any) -> Any:
    """The group `curate`, asking for nothing but what is changed."""
    return settings.group("curate", **{"duplicate_bits": 0, "max_outside": None} | changes)


def filtered(
    candidates: list[Candidate],
    deny: DenyList = NOBODY,
    blur_threshold: float = BLUR_THRESHOLD,
    **changes: Any,
) -> list[DatasetRow]:
    chosen = options(**changes)
    copies = copies_of(candidates, chosen.duplicate_bits)
    return filters.filter_crops(candidates, chosen, blur_threshold, deny, copies)


def copies_of(candidates: list[Candidate], bits: int | None) -> np.ndarray:
    return duplicates.find_copies([one.crop.phash for one in candidates], bits)


def grouped(candidates: list[Candidate], rows: list[DatasetRow], bits: int = 0) -> dict[str, str]:
    return splits.group_crops(candidates, rows, copies_of(candidates, bits))
