"""Downloads linked images, reads local photographs, and lists the outcome of each in a ledger."""

from pttfaces.download.downloader import DownloadSummary, download

__all__ = ["DownloadSummary", "download"]
