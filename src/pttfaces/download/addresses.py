"""Restricts what may be fetched to http and https URLs; `http.is_public` judges IP addresses."""

import ipaddress

from yarl import URL

from pttfaces.download.result import RejectedError

_MAX_LENGTH = 8192


def clean_url(text: str) -> URL:
    """The URL without credentials and fragment; RejectedError when it may not be fetched."""
    if len(text) > _MAX_LENGTH:
        raise RejectedError("failed", f"a URL of more than {_MAX_LENGTH} characters")
    try:
        url = URL(text)
        scheme, host = url.scheme, url.host or ""
    except ValueError:
        raise RejectedError("failed", "not a URL") from None
    if scheme not in ("http", "https"):
        raise RejectedError("refused_address", "only http and https are fetched")
    if not host:
        raise RejectedError("failed", "a URL without a host")
    last = host.rstrip(".").rpartition(".")[2]
    if ":" not in host and (last.isdigit() or last.startswith("0x")) and not _is_plain_ipv4(host):
        raise RejectedError("refused_address", "a host in disguise: not a plain address")
    if url.raw_user is not None or url.raw_password is not None:
        url = url.with_user(None)
    return url.with_fragment(None) if url.raw_fragment else url


def _is_plain_ipv4(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False
