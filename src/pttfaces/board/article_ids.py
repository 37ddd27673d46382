"""Reads times from article ids: `M.<unix seconds>.A.<hex>`, with days in UTC+8."""

import datetime
import re
from dataclasses import dataclass

from pttfaces.denylist import ARTICLE

TAIPEI = datetime.timezone(datetime.timedelta(hours=8))  # no summer time since 1979
# At this age an article gets no more pushes: its row and its page no longer change.
SETTLED_AFTER_S = 30 * 86400
# A page that may still change is requested again once its cached copy is this old.
RECENT_MAX_AGE_S = 86400.0

_HREF = re.compile(rf"/({ARTICLE.pattern})\.html$")


def posted_at(article: str) -> int | None:
    """Unix seconds at which an article was posted; None if the text is no article id."""
    match = ARTICLE.fullmatch(article)
    return int(match[1]) if match else None


def article_id_in(href: str) -> str | None:
    """The article id at the end of a link's path; None if there is none."""
    match = _HREF.search(href)
    return match[1] if match else None


def day_of(seconds: int) -> str:
    """The day of a Unix time in UTC+8, as YYYY-MM-DD."""
    return datetime.datetime.fromtimestamp(seconds, TAIPEI).date().isoformat()


@dataclass(frozen=True)
class Span:
    """A range of time in Unix seconds: start ≤ t < end."""

    start: int
    end: int

    @classmethod
    def of_days(cls, year: int, first: str, last: str) -> "Span":
        """From the first second of day `first` to the last of day `last`, both MMDD, in UTC+8.

        ValueError: the year has no such day.
        """
        start = datetime.datetime(year, int(first[:2]), int(first[2:]), tzinfo=TAIPEI)
        end = datetime.datetime(year, int(last[:2]), int(last[2:]), tzinfo=TAIPEI)
        return cls(int(start.timestamp()), int(end.timestamp()) + 86400)

    def __contains__(self, seconds: object) -> bool:
        return isinstance(seconds, int) and self.start <= seconds < self.end

    def __str__(self) -> str:
        return f"{day_of(self.start)} to {day_of(self.end - 1)}"
