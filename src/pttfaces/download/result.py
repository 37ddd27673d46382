"""Defines the result of a link (an image, or why there is none) and applies the limits.

A `Result` is a fact ("these bytes, this size"). `apply_limits` alone compares it with the limits,
so that other limits need no second request.
"""

from typing import NamedTuple

from pttfaces.config import Download

# The next run requests these again, since the answer may be another one.
RETRYABLE = ("unasked", "failed", "timeout", "blocked", "refused_address")
# What a busy host sends for a moment in an image's place: a page, or nothing.
PAGE, EMPTY = "HTML", "empty"
STATUSES = (
    *("ok", "duplicate", "truncated", "not_an_image", "too_large", "gone", "removed"),
    *("denied", "unresolved", *RETRYABLE),
)
FAILED = (*RETRYABLE, "gone", "removed", "not_an_image", "too_large", "truncated")
# SHA-256 of images that hosts send in place of one that was taken down.
PLACEHOLDERS = frozenset(
    {
        # imgur's removed.png, 161×81: "The image you are requesting does not exist"
        "9b5936f4006146e4e1e9025b474c02863c0b5614132ad40db4b925a10e8bfbb9",
    }
)
FORMAT_EXTENSIONS = {
    "JPEG": "jpg",
    "PNG": "png",
    "GIF": "gif",
    "WEBP": "webp",
    "AVIF": "avif",
    "HEIF": "heic",
}


class RejectedError(Exception):
    """An address or a file that gives no image; `status` and the message are for the ledger."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class ImageInfo(NamedTuple):
    """What an image's bytes say: format (a key of FORMAT_EXTENSIONS), pixels from the header.

    whole: the format's end marker is there. width and height are 0 where the file is cut
    before Pillow finds them.
    """

    sha256: str
    bytes: int
    format: str
    width: int
    height: int
    whole: bool

    @property
    def path(self) -> str:
        """Its path below data/raw: `ab/abcdef….jpg`."""
        return f"{self.sha256[:2]}/{self.sha256}.{FORMAT_EXTENSIONS[self.format]}"


class Result(NamedTuple):
    """How the requests for one URL ended.

    status: one of STATUSES; "ok" comes with an image, which `apply_limits` judges. attempts: None
    where there is nothing to request; 0 where the URL may not be requested. http_status: of the
    last response; None when there was none. min_bytes: for too_large, the bytes that the file has
    at least. ask_again: Unix time from which it is requested once more; None: never.
    """

    status: str
    error: str = ""
    attempts: int | None = None
    http_status: int | None = None
    final_url: str = ""
    image: ImageInfo | None = None
    min_bytes: int | None = None
    ask_again: float | None = None

    @property
    def is_retryable(self) -> bool:
        """Whether another request may have another outcome."""
        return self.status in RETRYABLE or (
            self.status == "not_an_image" and self.error in (PAGE, EMPTY)
        )


class Verdict(NamedTuple):
    """An image's status under the limits, with the reason, and whether to keep its bytes."""

    status: str
    error: str
    keep: bool


def apply_limits(image: ImageInfo, options: Download) -> Verdict:
    """Compares an image with the limits of params.yaml and with the known placeholders."""
    if image.sha256 in PLACEHOLDERS or image.sha256 in options.placeholders:
        return Verdict("removed", "its host's placeholder for a removed image", False)
    if image.bytes > options.max_bytes:
        return Verdict("too_large", f"larger than {options.max_mib:g} MiB", False)
    if image.width * image.height > options.max_megapixels * 1e6:
        size = f"{image.width}×{image.height}"
        return Verdict("too_large", f"{size} is over {options.max_megapixels:g} megapixels", False)
    if not image.whole:
        openable = image.width > 0
        return Verdict("truncated", "its end is missing", options.keep_truncated and openable)
    return Verdict("ok", "", True)
