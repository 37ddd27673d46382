"""The one door to the network: every page and picture is fetched through it.

A door knows which host names lead to a server on this machine's loopback (the embedded demo board,
a test's server). All other names go out as they are. Rooms take a door and never know which it is.
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

USER_AGENT = f"pttfaces/{__version__} (research crawler; one polite client, see its README)"


@dataclass(frozen=True)
class Door:
    """Where host names lead.

    local: host name (lower case) → port on 127.0.0.1 that answers in its place, over plain HTTP
    whatever the URL's scheme says. Empty for the real network.
    """

    local: Mapping[str, int] = field(default_factory=dict)

    def port(self, host: str | None) -> int | None:
        """The port on 127.0.0.1 that answers for a host; None for a host out in the network."""
        return self.local.get((host or "").lower())

    def wire(self, url: str) -> tuple[str, dict[str, str]]:
        """The address to connect to for `url`, and the headers that keep its host name."""
        parts = urlsplit(url)
        port = self.port(parts.hostname)
        if port is None:
            return url, {}
        address = urlunsplit(("http", f"127.0.0.1:{port}", parts.path or "/", parts.query, ""))
        return address, {"Host": parts.netloc}

    def session(self) -> requests.Session:
        """A requests session that goes through this door; responses keep the URL asked for."""
        session = requests.Session()
        session.headers["User-Agent"] = USER_AGENT
        for scheme in ("http://", "https://"):
            session.mount(scheme, _DoorAdapter(self))
        return session


def retry_after(text: str) -> float | None:
    """A Retry-After header in seconds from now: a number or a date (RFC 9110, 10.2.3); None for
    anything else."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class _DoorAdapter(HTTPAdapter):
    def __init__(self, door: Door) -> None:
        super().__init__()
        self._door = door

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        address, headers = self._door.wire(request.url or "")
        wired = request.copy()
        wired.url = address
        wired.headers.update(headers)
        if headers:
            kwargs["proxies"] = {}  # a proxy of the environment cannot reach this loopback
        response = super().send(wired, *args, **kwargs)
        response.url, response.request = request.url or "", request
        return response
