"""Says which of two scores is better, as far as their intervals tell."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pttfaces.evaluation import COMPARABLE, DISTANCES


@dataclass(frozen=True)
class Score:
    """A distance; low, high: its 95 % interval, None in results of version 0.2 and before;
    conditions: what has to be equal before two compare, as text."""

    name: str
    value: float
    low: float | None
    high: float | None
    conditions: tuple[str, ...]

    @classmethod
    def of(cls, figures: Mapping[str, Any], conditions: Mapping[str, Any]) -> Self | None:
        """figures: with the distance and its interval, such as those of metrics/evaluate.json;
        conditions: with the keys of COMPARABLE. None without a distance."""
        for name in DISTANCES:
            if name in figures:
                low, high = (figures.get(f"{name}_{end}") for end in ("low", "high"))
                # Scores of version 0.1 have no digest of the reference.
                known = {"reference_digest": conditions.get("reference"), **conditions}
                equal = tuple(str(known.get(key)) for key in COMPARABLE)
                return cls(name, figures[name], low, high, equal)
        return None

    @property
    def text(self) -> str:
        """The distance with its interval."""
        interval = "" if self.low is None else f" ({self.low:.4g} to {self.high:.4g})"
        return f"{self.name} {self.value:.4g}{interval}"


def verdict(first: Score, second: Score) -> str:
    """What the first is beside the second: better, worse, cannot tell, or not comparable.

    Cannot tell: the difference is within what other samples of the same two models would change,
    with 95 % confidence. Another training of the same recipe may change more.
    """
    if (first.name, first.conditions) != (second.name, second.conditions):
        return "not comparable"
    # Not the lower halves: they end at 0.
    halves = [score.high - score.value for score in (first, second) if score.high is not None]
    difference = first.value - second.value
    if len(halves) < 2 or abs(difference) <= math.hypot(*halves):
        return "cannot tell"
    return "better" if difference < 0 else "worse"
