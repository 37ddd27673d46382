"""Makes single HTTP requests, reads responses within all limits and identifies their images.

The scheduler handles redirects and retries. Error messages contain no port, address or time, so
that the ledger is the same in every run. Bodies are inspected and stored in a worker thread, so
that the next responses are read meanwhile.
"""

import errno
import ssl
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from pttfaces.config import Download
from pttfaces.download.addresses import RefusedAddressError, public_socket
from pttfaces.download.image_type import HEAD_BYTES, NotAnImageError, image_format
from pttfaces.download.result import ImageInfo
from pttfaces.download.store import ImageStore, Part
from pttfaces.download.worker import Worker
from pttfaces.http import LOOPBACK, USER_AGENT, LoopbackHosts, retry_after

_CONNECT_S = 10.0
_READ_AHEAD = 2**18  # bytes buffered of one connection, at most about twice as many
_DNS_S = 300
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (404, 410)
_BLOCKED = (401, 403, 429, 451)
_RETRYABLE_CODES = (403, 408, 425, 429)  # and 5xx; imgur says "over capacity" with 403, too
_HEADERS = {
    "User-Agent": USER_AGENT,
    # Naming formats would invite a host to convert; "text/html" would get imgur's page instead.
    "Accept": "image/*",
    "Accept-Encoding": "identity",
}


class Answer(NamedTuple):
    """The outcome of one request.

    status: as in the ledger, or "redirect" to `location`, or "body", to be passed to
    `ImageClient.inspect`. retry: whether another request may have another outcome; for a body: only
    if its end is missing. retry_after: seconds that the host asks for. min_bytes: see `Result`.
    """

    status: str
    error: str = ""
    http_status: int | None = None
    body: Part | None = None
    image: ImageInfo | None = None
    retry: bool = False
    location: str = ""
    retry_after: float | None = None
    min_bytes: int | None = None

    @property
    def throttled(self) -> bool:
        """The host asks for fewer requests."""
        code = self.http_status
        return code == 429 or (code == 503 and self.retry_after is not None)

    @property
    def host_failed(self) -> bool:
        """There was no response, or one that says nothing about the link."""
        code = self.http_status
        return self.status != "refused_address" and (code is None or code == 403 or code >= 500)


class ImageClient:
    """Connections to public addresses and to `hosts`; an asynchronous context manager.

    should_store: whether an image is to be stored; the others are inspected and dropped.
    """

    def __init__(
        self,
        hosts: LoopbackHosts,
        store: ImageStore,
        options: Download,
        should_store: Callable[[ImageInfo], bool],
    ) -> None:
        self._hosts, self._store, self._options = hosts, store, options
        self._should_store = should_store
        self._max_bytes = options.max_bytes
        self._too_large = f"larger than {options.max_mib:g} MiB"

    async def __aenter__(self) -> Self:
        self._worker = Worker(self._inspect_and_store)
        self._web = self._session(
            aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_S, socket_factory=public_socket)
        )
        # A connector without the check of addresses, for nothing but the hosts on loopback.
        self._local = self._session(aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._worker.close()
        await self._web.close()
        await self._local.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        seconds = self._options.timeout_s
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_S)),
            read_bufsize=_READ_AHEAD,
        )

    async def get(self, url: URL) -> Answer:
        """Requests a URL that `clean_url` returned. OSError: the disk's, never the network's."""
        if self._worker.full:
            await self._worker.wait_until_free()
        session, headers, name = self._web, None, None
        code: int | None = None
        if (port := self._hosts.port(url.host)) is not None:
            # The name keeps connections apart: one host's stray bytes must not answer for another.
            session, headers, name = self._local, {"Host": url.raw_authority}, url.host
            url = URL(f"http://{LOOPBACK}:{port}{url.raw_path_qs}", encoded=True)
        try:
            async with session.get(
                url, headers=headers, allow_redirects=False, server_hostname=name
            ) as response:
                code = response.status
                return await self._read(response)
        except aiohttp.ConnectionTimeoutError:
            return Answer("timeout", "no connection in time", retry=True)
        except TimeoutError:
            message = f"not done within {self._options.timeout_s:g} s"
            return Answer("timeout", message, code, retry=True)
        except aiohttp.ClientConnectorDNSError:
            return Answer("failed", "its host's name does not resolve", retry=True)
        except aiohttp.ClientConnectorCertificateError:
            return Answer("failed", "its host's certificate is not valid")
        except (aiohttp.ClientConnectorSSLError, ssl.SSLError):
            return Answer("failed", "no TLS connection", code, retry=True)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddressError):
                return Answer("refused_address", str(error.os_error))
            name = errno.errorcode.get(error.os_error.errno or 0, "")
            return Answer("failed", f"no connection {name}".strip(), retry=True)
        except aiohttp.InvalidURL:
            return Answer("failed", "not a URL")
        except aiohttp.ClientResponseError:
            return Answer("failed", "the answer is not proper HTTP", code, retry=True)
        except (aiohttp.ClientError, ConnectionError):
            return Answer("failed", "the connection broke", code, retry=True)
        except UnicodeError:
            return Answer("failed", "its host's name is not a name")

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        code = response.status
        if code in (200, 203):
            return await self._read_body(response)
        if code in _REDIRECTS and "Location" in response.headers:
            location = response.headers["Location"].encode("utf-8", "surrogateescape")
            return Answer("redirect", "", code, location=location.decode("utf-8", "replace"))
        if code in _GONE:
            return Answer("gone", f"HTTP {code}", code)
        status = "blocked" if code in _BLOCKED else "failed"
        retry = code in _RETRYABLE_CODES or code >= 500
        seconds = retry_after(response.headers.get("Retry-After", ""))
        return Answer(status, f"HTTP {code}", code, retry=retry, retry_after=seconds)

    async def _read_body(self, response: aiohttp.ClientResponse) -> Answer:
        code, length = response.status, response.content_length
        if length is not None and length > self._max_bytes:
            return Answer("too_large", self._too_large, code, min_bytes=length)
        part = self._store.new_part()
        try:
            refusal = await self._receive(response, part)
        except BaseException:
            part.discard()
            raise
        if refusal:
            part.discard()
            return refusal
        # Without a length, the end of the body looks like a lost connection.
        unsure = length is None and "Transfer-Encoding" not in response.headers
        return Answer("body", "", code, part, retry=unsure)

    async def _receive(self, response: aiohttp.ClientResponse, part: Part) -> Answer | None:
        """Reads the body into `part`; returns an answer instead where it stops before the end."""
        head = b""
        async for chunk in response.content.iter_any():
            part.write(chunk)
            if part.bytes > self._max_bytes:
                min_bytes = self._max_bytes + 1
                return Answer("too_large", self._too_large, response.status, min_bytes=min_bytes)
            if len(head) < HEAD_BYTES:
                head = (head + chunk[:HEAD_BYTES])[:HEAD_BYTES]
                if len(head) == HEAD_BYTES:
                    try:
                        image_format(head)
                    except NotAnImageError as error:  # an error page; it may well be endless
                        return Answer("not_an_image", str(error), response.status)
        return None

    def inspect(self, answer: Answer, callback: Callable[[Answer | Exception], None]) -> None:
        """Identifies a body, stores its image if `should_store`, then calls `callback`.

        The callback gets the answer for the image, or the disk's exception.
        """
        assert answer.body
        self._worker.submit(answer.body, partial(self._inspected, answer, callback))

    def _inspect_and_store(self, part: Part) -> ImageInfo:
        image = part.inspect()
        if self._should_store(image):
            self._store.add(part, image)
        return image

    def _inspected(
        self,
        answer: Answer,
        callback: Callable[[Answer | Exception], None],
        output: ImageInfo | Exception,
    ) -> None:
        assert answer.body
        answer.body.discard()
        if isinstance(output, NotAnImageError):
            callback(Answer("not_an_image", str(output), answer.http_status))
        elif isinstance(output, Exception):
            callback(output)
        else:
            retry = answer.retry and not output.whole
            callback(Answer("ok", "", answer.http_status, None, output, retry))
