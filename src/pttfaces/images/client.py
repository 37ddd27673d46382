"""One request: asks, reads what comes under all limits, and says what it was.

Follows nothing and repeats nothing: redirects and further tries are the caller's. Error sentences
hold no port, address or time, so that the ledger is the same in every run.
"""

import errno
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from pttfaces.door import USER_AGENT, Door, retry_after
from pttfaces.images.addresses import RefusedAddressError, public_socket
from pttfaces.images.outcome import Limits, Picture
from pttfaces.images.recognise import HEAD, NotAnImageError, kind_of, recognise
from pttfaces.images.store import Store

_CONNECT_S = 10.0
_DNS_S = 300
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (404, 410)
_BLOCKED = (401, 403, 429, 451)
_REPEATED = (403, 408, 425, 429)  # and 5xx; imgur says "over capacity" with 403, too
_HEADERS = {
    "User-Agent": USER_AGENT,
    # Naming formats would invite a host to convert; "text/html" would get imgur's page instead.
    "Accept": "image/*",
    "Accept-Encoding": "identity",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request came to.

    status: as in the ledger, or "redirect" with the place in `to`. again: another try may end
    otherwise. wait: seconds that the host asks for. at_least: see Outcome.
    """

    status: str
    error: str = ""
    http_status: int | None = None
    picture: Picture | None = None
    again: bool = False
    to: str = ""
    wait: float | None = None
    at_least: int | None = None

    @property
    def throttled(self) -> bool:
        """The host asks for fewer requests."""
        return self.http_status == 429 or (self.http_status == 503 and self.wait is not None)

    @property
    def host_failed(self) -> bool:
        """There was no answer, or one that says nothing about the link."""
        code = self.http_status
        return self.status != "refused_address" and (code is None or code == 403 or code >= 500)


class Client:
    """Connections to everywhere the door leads; an asynchronous context manager.

    wanted: whether a picture's bytes are to be kept; the others' are looked at and dropped.
    """

    def __init__(
        self, door: Door, store: Store, limits: Limits, wanted: Callable[[Picture], bool]
    ) -> None:
        self._door, self._store, self._limits, self._wanted = door, store, limits, wanted

    async def __aenter__(self) -> Self:
        self._web = self._session(
            aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_S, socket_factory=public_socket)
        )
        # A connector of its own: only what the door itself leads to this machine can use it.
        self._local = self._session(aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._web.close()
        await self._local.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        seconds = self._limits.timeout_s
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_S)),
        )

    async def get(self, url: URL) -> Answer:
        """Requests a URL that `clean_url` has passed. OSError: the disk's, never the network's."""
        address, headers = self._door.wire(str(url))
        session = self._local if headers else self._web
        code: int | None = None
        try:
            async with session.get(
                URL(address, encoded=True), headers=headers, allow_redirects=False
            ) as response:
                code = response.status
                return await self._read(response)
        except aiohttp.ConnectionTimeoutError:
            return Answer("timeout", "no connection in time", again=True)
        except TimeoutError:
            sentence = f"not done within {self._limits.timeout_s:g} s"
            return Answer("timeout", sentence, code, again=True)
        except aiohttp.ClientConnectorDNSError:
            return Answer("failed", "its host's name does not resolve", again=True)
        except aiohttp.ClientConnectorCertificateError:
            return Answer("failed", "its host's certificate is not valid")
        except (aiohttp.ClientConnectorSSLError, ssl.SSLError):
            return Answer("failed", "no TLS connection", code, again=True)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddressError):
                return Answer("refused_address", str(error.os_error))
            name = errno.errorcode.get(error.os_error.errno or 0, "")
            return Answer("failed", f"no connection {name}".strip(), again=True)
        except aiohttp.InvalidURL:
            return Answer("failed", "not a URL")
        except aiohttp.ClientResponseError:
            return Answer("failed", "the answer is not proper HTTP", code, again=True)
        except (aiohttp.ClientError, ConnectionError):
            return Answer("failed", "the connection broke", code, again=True)
        except UnicodeError:
            return Answer("failed", "its host's name is not a name")

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        code = response.status
        if code in (200, 203):
            return await self._read_picture(response)
        if code in _REDIRECTS and "Location" in response.headers:
            place = response.headers["Location"].encode("utf-8", "surrogateescape")
            return Answer("redirect", "", code, to=place.decode("utf-8", "replace"))
        if code in _GONE:
            return Answer("gone", f"HTTP {code}", code)
        status = "blocked" if code in _BLOCKED else "failed"
        again = code in _REPEATED or code >= 500
        wait = retry_after(response.headers.get("Retry-After", ""))
        return Answer(status, f"HTTP {code}", code, again=again, wait=wait)

    async def _read_picture(self, response: aiohttp.ClientResponse) -> Answer:
        code, most = response.status, self._limits.max_bytes
        too_large = f"larger than {self._limits.max_mib:g} MiB"
        length = response.content_length
        if length is not None and length > most:
            return Answer("too_large", too_large, code, at_least=length)
        head = b""
        with self._store.part() as part:
            async for chunk in response.content.iter_any():
                if part.bytes < HEAD:
                    head = (head + chunk)[:HEAD]
                    if len(head) == HEAD and not _is_known(head):
                        break  # an error page; it may well be endless
                part.write(chunk)
                if part.bytes > most:
                    return Answer("too_large", too_large, code, at_least=most + 1)
            try:
                kind_of(head)
                picture = recognise(part.path, part.finish())
            except NotAnImageError as error:
                return Answer("not_an_image", str(error), code)
            if self._wanted(picture):
                self._store.keep(part, picture)
        # Without a length, the line's end cannot be told from a lost connection.
        unsure = length is None and "Transfer-Encoding" not in response.headers
        return Answer("ok", "", code, picture, again=unsure and not picture.whole)


def _is_known(head: bytes) -> bool:
    try:
        kind_of(head)
    except NotAnImageError:
        return False
    return True
