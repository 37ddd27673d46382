"""One request: asks, reads what comes under all limits, and says what it was.

Follows nothing and repeats nothing: redirects and further tries are the caller's. Error sentences
hold no port, address or time, so that the ledger is the same in every run. Bodies are looked at and
stored by a thread, so that the next answers are read meanwhile.
"""

import errno
import ssl
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from pttfaces.download.addresses import RefusedAddressError, public_socket
from pttfaces.download.image_type import HEAD, NotAnImageError, kind_of
from pttfaces.download.result import Limits, Picture
from pttfaces.download.store import Part, Store
from pttfaces.download.worker import Keeper
from pttfaces.http import USER_AGENT, LoopbackHosts, retry_after

_CONNECT_S = 10.0
_AHEAD = 2**18  # bytes read ahead of us from one connection, at the most about twice as many
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


class Answer(NamedTuple):
    """What one request came to.

    status: as in the ledger, or "redirect" with the place in `to`, or "body" with what came in
    `body`, for `Client.look`. again: another try may end otherwise; of a body: if its end is
    missing. wait: seconds that the host asks for. at_least: see Outcome.
    """

    status: str
    error: str = ""
    http_status: int | None = None
    body: Part | None = None
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
        self, door: LoopbackHosts, store: Store, limits: Limits, wanted: Callable[[Picture], bool]
    ) -> None:
        self._door, self._store, self._limits, self._wanted = door, store, limits, wanted
        self._too_large = f"larger than {limits.max_mib:g} MiB"

    async def __aenter__(self) -> Self:
        self._keeper = Keeper(self._keep)
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
        await self._keeper.close()
        await self._web.close()
        await self._local.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        seconds = self._limits.timeout_s
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_S)),
            read_bufsize=_AHEAD,
        )

    async def get(self, url: URL) -> Answer:
        """Requests a URL that `clean_url` has passed. OSError: the disk's, never the network's."""
        if self._keeper.full:
            await self._keeper.room()
        session, headers, name = self._web, None, None
        code: int | None = None
        if (port := self._door.port(url.host)) is not None:
            # The name keeps connections apart: one host's stray bytes must not answer for another.
            session, headers, name = self._local, {"Host": url.raw_authority}, url.host
            url = URL(f"http://127.0.0.1:{port}{url.raw_path_qs}", encoded=True)
        try:
            async with session.get(
                url, headers=headers, allow_redirects=False, server_hostname=name
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
        code, length = response.status, response.content_length
        if length is not None and length > self._limits.max_bytes:
            return Answer("too_large", self._too_large, code, at_least=length)
        part = self._store.part()
        try:
            refusal = await self._receive(response, part)
        except BaseException:
            part.discard()
            raise
        if refusal:
            part.discard()
            return refusal
        # Without a length, the line's end cannot be told from a lost connection.
        unsure = length is None and "Transfer-Encoding" not in response.headers
        return Answer("body", "", code, part, again=unsure)

    async def _receive(self, response: aiohttp.ClientResponse, part: Part) -> Answer | None:
        """Reads the body into `part`; the answer instead, where it is not read to its end."""
        head, most = b"", self._limits.max_bytes
        async for chunk in response.content.iter_any():
            part.write(chunk)
            if part.bytes > most:
                return Answer("too_large", self._too_large, response.status, at_least=most + 1)
            if len(head) < HEAD:
                head = (head + chunk[:HEAD])[:HEAD]
                if len(head) == HEAD:
                    try:
                        kind_of(head)
                    except NotAnImageError as error:  # an error page; it may well be endless
                        return Answer("not_an_image", str(error), response.status)
        return None

    def look(self, answer: Answer, done: Callable[[Answer | Exception], None]) -> None:
        """Has `done` called with what a body is; then it is in the store, if it is wanted.

        An exception instead is the disk's.
        """
        assert answer.body
        self._keeper.give(answer.body, partial(self._looked, answer, done))

    def _keep(self, part: Part) -> Picture:
        picture = part.look()
        if self._wanted(picture):
            self._store.keep(part, picture)
        return picture

    def _looked(
        self,
        answer: Answer,
        done: Callable[[Answer | Exception], None],
        found: Picture | Exception,
    ) -> None:
        assert answer.body
        answer.body.discard()
        if isinstance(found, NotAnImageError):
            done(Answer("not_an_image", str(found), answer.http_status))
        elif isinstance(found, Exception):
            done(found)
        else:
            again = answer.again and not found.whole
            done(Answer("ok", "", answer.http_status, None, found, again))
