"""What can become of a link, as plain data: a picture's facts, a link's outcome, the limits.

Outcomes are facts ("these bytes, this size"); `judge` is the one place that weighs them against the
limits, so that other limits need no second fetch. Knows nothing of networks and folders.
"""

from dataclasses import dataclass
from typing import NamedTuple

# A second try of these may end otherwise: the next run takes them up again.
MAY_STILL_COME = ("failed", "timeout", "blocked", "refused_address")
STATUSES = (
    "ok",
    "duplicate",
    "truncated",
    "not_an_image",
    "too_large",
    "gone",
    "removed",
    "denied",
    "unresolved",
    *MAY_STILL_COME,
)
# No second try would end otherwise, as far as one can know, and there is no picture.
_HOPELESS = ("gone", "removed", "not_an_image", "too_large", "truncated")
FAILED = (*MAY_STILL_COME, *_HOPELESS)
# SHA-256 of pictures that hosts send in place of one that was taken down.
PLACEHOLDERS = frozenset(
    {
        # imgur's removed.png, 161×81: "The image you are requesting does not exist"
        "9b5936f4006146e4e1e9025b474c02863c0b5614132ad40db4b925a10e8bfbb9",
    }
)
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "GIF": "gif", "WEBP": "webp", "AVIF": "avif"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to pull and how much to take; the keys of params.yaml's `download`.

    concurrency, per_host: requests under way at once; rate_per_host: requests a second;
    attempts: tries a link; timeout_s: seconds a request; max_mib: MiB a file.
    """

    concurrency: int
    per_host: int
    rate_per_host: float
    attempts: int
    timeout_s: float
    max_mib: float
    max_megapixels: float
    keep_truncated: bool

    @property
    def max_bytes(self) -> int:
        """Largest file, in bytes."""
        return int(self.max_mib * 2**20)


class Picture(NamedTuple):
    """What a picture's bytes say: format (a key of EXTENSIONS), pixels from the header.

    whole: the format's end marker is there. width and height are 0 where a picture was cut before
    the place that tells them.
    """

    sha256: str
    bytes: int
    format: str
    width: int
    height: int
    whole: bool

    @property
    def path(self) -> str:
        """Where it lies below data/raw: `ab/abcdef….jpg`."""
        return f"{self.sha256[:2]}/{self.sha256}.{EXTENSIONS[self.format]}"


class Outcome(NamedTuple):
    """How the fetching of one URL ended.

    status: one of STATUSES, or "ok" with a picture for `judge` to weigh. http_status: of the last
    answer; None when there was none. at_least: for too_large, bytes that the file reaches.
    """

    status: str
    error: str = ""
    attempts: int = 0
    http_status: int | None = None
    final_url: str = ""
    picture: Picture | None = None
    at_least: int | None = None


class Verdict(NamedTuple):
    """A picture's status under the limits, with the reason, and whether its bytes are kept."""

    status: str
    error: str
    kept: bool


def judge(picture: Picture, limits: Limits) -> Verdict:
    """Weighs a picture's facts against the limits."""
    if picture.sha256 in PLACEHOLDERS:
        return Verdict("removed", "its host's picture for what was taken down", False)
    if picture.bytes > limits.max_bytes:
        return Verdict("too_large", f"larger than {limits.max_mib:g} MiB", False)
    if picture.width * picture.height > limits.max_megapixels * 1e6:
        size = f"{picture.width}×{picture.height}"
        return Verdict("too_large", f"{size} is over {limits.max_megapixels:g} megapixels", False)
    if not picture.whole:
        openable = picture.width > 0
        return Verdict("truncated", "its end is missing", limits.keep_truncated and openable)
    return Verdict("ok", "", True)
