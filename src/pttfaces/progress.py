"""Shows the progress of long work: a bar on a terminal, a line every 15 seconds in a log."""

import io
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0


class _Bar(tqdm):  # type: ignore[type-arg] # only its stubs are generic
    """tqdm that says how long one item takes ("3.06 s/image"), where that is over a second."""

    @staticmethod
    def format_meter(**options: Any) -> str:  # type: ignore[override] # all that tqdm passes
        """As tqdm's, where the unit's space and plural would give "3.06s/ images"."""
        unit = str(options["unit"])
        text = tqdm.format_meter(**options)
        return text.replace(f"s/{unit}", f" s/{unit.strip().removesuffix('s')}")


class _PlainLines(_Bar):
    """For a log file: whole lines without a bar or carriage returns."""

    @staticmethod
    def status_printer(_file: Any) -> Callable[[str], None]:
        return lambda line: print(line, file=sys.stderr, flush=True)


def progress(desc: str, total: int | None, unit: str, initial: int = 0) -> "tqdm[Any]":
    """A tqdm bar over `total` items; use as a context manager, call `update(n)`.

    Shows the rate and the time left. desc: the work ("download"); unit: the items, with a leading
    space (" images"); initial: how many were done before a restart; total: None if unknown.
    """
    if total == 0:
        return tqdm(disable=True)
    if sys.stderr.isatty():
        return _Bar(desc=desc, total=total, unit=unit, initial=initial, dynamic_ncols=True)
    form = (
        "{desc}: {n_fmt} of {total_fmt}{unit}, {rate_fmt}{postfix}, "
        "{elapsed} so far, {remaining} left"
    )
    return _PlainLines(
        desc=desc,
        total=total,
        unit=unit,
        initial=initial,
        file=io.StringIO(),  # swallows the line end that tqdm adds when it closes
        bar_format=form if total is not None else None,
        mininterval=_SECONDS_BETWEEN_LINES,
        miniters=1,
    )
