"""Restricts what may be fetched to http and https URLs; `http.is_public` judges IP addresses."""

import ipaddress
import re
from functools import lru_cache
from urllib.parse import urljoin, urlsplit

from yarl import URL

from pttfaces.download.result import RejectedError

_MAX_LENGTH = 8192
_NOT_SENDABLE = re.compile(r"[^!-~]+")  # in the first line of a request


def clean_url(text: str, base: str = "") -> URL:
    """The URL without credentials and fragment, its path and query as given: only what cannot be
    sent is percent-encoded, since signatures cover the others. RejectedError: it may not be
    fetched.

    text: may be relative to `base`, and hold bytes that are not UTF-8 as surrogates (PEP 383),
    which are percent-encoded as browsers do.
    """
    if len(text) > _MAX_LENGTH:
        raise RejectedError("failed", f"a URL of more than {_MAX_LENGTH} characters")
    try:
        scheme, authority, path, query, _ = urlsplit(urljoin(base, text))
        if scheme not in ("http", "https"):
            raise RejectedError("refused_address", "only http and https are fetched")
        root, target = _root(scheme, authority), f"{path or '/'}{query and '?'}{query}"
        return URL(root + _NOT_SENDABLE.sub(_percent_encoded, target), encoded=True)
    except ValueError:
        raise RejectedError("failed", "not a URL") from None


@lru_cache(4096)
def _root(scheme: str, authority: str) -> str:
    """Scheme, host and port of a URL; RejectedError, ValueError: it may not be fetched."""
    url = URL(f"{scheme}://{authority}")
    host = url.raw_host or ""
    if not url.host:  # decodes the name: ValueError if that cannot be done
        raise RejectedError("failed", "a URL without a host")
    last = host.rstrip(".").rpartition(".")[2]
    if ":" not in host and (last.isdigit() or last.startswith("0x")) and not _is_plain_ipv4(host):
        raise RejectedError("refused_address", "a host in disguise: not a plain address")
    return f"{scheme}://{url.raw_authority.rpartition('@')[2]}"


def _percent_encoded(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape"))


def _is_plain_ipv4(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False
