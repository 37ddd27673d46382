"""Downloads linked images, reads local photographs, and writes what became of each to a ledger."""

from pttfaces.download.downloader import DownloadSummary, download

__all__ = ["DownloadSummary", "download"]
