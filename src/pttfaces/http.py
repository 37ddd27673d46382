"""Provides both web clients with the User-Agent, the Retry-After header and hosts on loopback.

`LoopbackHosts` maps host names to servers on this machine (the embedded demo board, a test's
server, a local mirror); requests to all other names go to the network.
"""

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter

from pttfaces import __version__
from pttfaces.errors import ParamsError

USER_AGENT = f"pttfaces/{__version__} (research crawler; one polite client, see its README)"
LOOPBACK = "127.0.0.1"
LOOPBACK_VARIABLE = "PTTFACES_LOOPBACK_HOSTS"


@dataclass(frozen=True)
class LoopbackHosts:
    """Host names that are served by this machine.

    ports: host name (lower case) → port on 127.0.0.1 that serves it, over plain HTTP whatever the
    scheme of the URL. Empty: every name is resolved.
    """

    ports: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "LoopbackHosts":
        """Reads "img.test=8081,board.test=8082"; ParamsError names an entry that is not allowed."""
        ports = {}
        for entry in filter(None, (part.strip() for part in text.split(","))):
            host, _, port = entry.partition("=")
            if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ParamsError(
                    f"{LOOPBACK_VARIABLE} has the entry {entry!r}; expected HOST=PORT with a "
                    "port from 1 to 65535, such as img.test=8081."
                )
            ports[host.lower()] = int(port)
        return cls(ports)

    def port(self, host: str | None) -> int | None:
        """The port on 127.0.0.1 that serves a host; None for a host on the network."""
        return self.ports.get((host or "").lower())

    def resolve(self, url: str) -> tuple[str, dict[str, str]]:
        """The address to connect to for `url`, and the headers that keep its host name."""
        parts = urlsplit(url)
        port = self.port(parts.hostname)
        if port is None:
            return url, {}
        address = urlunsplit(("http", f"{LOOPBACK}:{port}", parts.path or "/", parts.query, ""))
        return address, {"Host": parts.netloc}

    def session(self, follow_redirects: bool = True) -> requests.Session:
        """A requests session that maps these hosts; responses keep the URL that was requested."""
        session = requests.Session() if follow_redirects else _NoRedirects()
        session.headers["User-Agent"] = USER_AGENT
        for scheme in ("http://", "https://"):
            session.mount(scheme, _LoopbackAdapter(self))
        return session


def retry_after(text: str) -> float | None:
    """A Retry-After header in seconds from now: a number or a date (RFC 9110, 10.2.3).

    None for anything else.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class _NoRedirects(requests.Session):
    """Returns a redirect as it comes: requests would first read its whole body into memory."""

    def resolve_redirects(self, *_: Any, **__: Any) -> Any:
        return iter(())


class _LoopbackAdapter(HTTPAdapter):
    def __init__(self, hosts: LoopbackHosts) -> None:
        super().__init__()
        self._hosts = hosts

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        address, headers = self._hosts.resolve(request.url or "")
        resolved = request.copy()
        resolved.url = address
        resolved.headers.update(headers)
        if headers:
            kwargs["proxies"] = {}  # a proxy cannot reach this machine's loopback
        response = super().send(resolved, *args, **kwargs)
        response.url, response.request = request.url or "", request
        return response
