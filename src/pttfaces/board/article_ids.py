"""Article ids, which are the board's clock: `M.<unix seconds>.A.<hex>`, read in UTC+8.

Knows nothing of pages or of the network.
"""

import datetime
import re
from dataclasses import dataclass

from pttfaces.denylist import ARTICLE

TAIPEI = datetime.timezone(datetime.timedelta(hours=8))  # no summer time since 1979
# By then nobody adds pushes to an article any more: its row and its page stay as they are.
SETTLED_AFTER_S = 30 * 86400

_HREF = re.compile(rf"/({ARTICLE.pattern})\.html$")


def posted_at(article: str) -> int | None:
    """Unix seconds at which an article was posted; None for what is no article id."""
    match = ARTICLE.fullmatch(article)
    return int(match[1]) if match else None


def id_of(href: str) -> str | None:
    """The article id at the end of a link's path; None where there is none."""
    match = _HREF.search(href)
    return match[1] if match else None


def day_of(seconds: int) -> str:
    """The board's day of a time, as YYYY-MM-DD."""
    return datetime.datetime.fromtimestamp(seconds, TAIPEI).date().isoformat()


@dataclass(frozen=True)
class Span:
    """A stretch of time in unix seconds: start ≤ t < end."""

    start: int
    end: int

    @classmethod
    def of_days(cls, year: int, first: str, last: str) -> "Span":
        """From the first second of day `first` to the last of day `last`, both MMDD, in UTC+8.

        ValueError: no such day in that year.
        """
        start = datetime.datetime(year, int(first[:2]), int(first[2:]), tzinfo=TAIPEI)
        end = datetime.datetime(year, int(last[:2]), int(last[2:]), tzinfo=TAIPEI)
        return cls(int(start.timestamp()), int(end.timestamp()) + 86400)

    def __contains__(self, seconds: object) -> bool:
        return isinstance(seconds, int) and self.start <= seconds < self.end

    def __str__(self) -> str:
        return f"{day_of(self.start)} to {day_of(self.end - 1)}"
