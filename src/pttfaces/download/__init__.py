"""Downloads linked images, reads local photographs, and records what became of each in a ledger."""

from pttfaces.download.downloader import Report, download
from pttfaces.download.ledger import LINK_FIELDS
from pttfaces.download.result import Limits

__all__ = ["LINK_FIELDS", "Limits", "Report", "download"]
