"""Makes one HTTP request and saves the image that is sent, within all limits, in the store.

The scheduler follows redirects and retries. Error messages contain no port, address or time, so
that the ledger is the same in every run.
"""

import errno
import io
import ssl
from typing import NamedTuple, Self

import aiohttp
from yarl import URL

from pttfaces.config import Download
from pttfaces.download.image_type import HEAD_BYTES, image_format
from pttfaces.download.result import RejectedError, Result
from pttfaces.download.store import ImageStore
from pttfaces.http import (
    LOOPBACK,
    LoopbackHosts,
    RefusedAddressError,
    public_socket,
    retry_after,
    user_agent,
)

_CONNECT_S = 10.0
_READ_AHEAD = 2**18  # bytes buffered of one connection, at most about twice as many
_DNS_S = 300
_SMALL_BYTES = 2**20  # a file that is read at once
_REDIRECTS = (301, 302, 303, 307, 308)
_GONE = (404, 410)
_BLOCKED = (401, 403, 429, 451)
_RETRYABLE_CODES = (403, 408, 425, 429)  # and 5xx; imgur says "over capacity" with 403, too
_HEADERS = {
    # Naming formats would invite a host to convert; "text/html" would get imgur's page instead.
    "Accept": "image/*",
    "Accept-Encoding": "identity",
}
_NETWORK_ERRORS = (
    aiohttp.ClientError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    UnicodeError,  # of a host's name
)
# Errors of a request that say nothing of whether its host is up.
_ABOUT_THE_LINK = (aiohttp.InvalidURL, aiohttp.ClientResponseError, UnicodeError)


class Answer(NamedTuple):
    """The outcome of one request.

    result: without attempts and final_url, which the scheduler knows; retry: whether another
    request may have another outcome; silent: whether the host gave no answer, or did not finish one
    in time; location: where a redirect leads, "" if it is none; retry_after: seconds that the host
    asks for.
    """

    result: Result
    retry: bool = False
    silent: bool = False
    location: str = ""
    retry_after: float | None = None


class ImageClient:
    """Connections to public addresses and to `hosts`; an asynchronous context manager."""

    def __init__(self, hosts: LoopbackHosts, store: ImageStore, options: Download) -> None:
        self._hosts, self._store, self._options = hosts, store, options

    async def __aenter__(self) -> Self:
        self._web = self._session(
            aiohttp.TCPConnector(limit=0, ttl_dns_cache=_DNS_S, socket_factory=public_socket)
        )
        # A connector without the check of addresses, for nothing but the hosts on loopback.
        self._local = self._session(aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._web.close()
        await self._local.close()

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        seconds = self._options.timeout_s
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={**_HEADERS, "User-Agent": user_agent()},
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_S)),
            read_bufsize=_READ_AHEAD,
        )

    async def get(self, url: URL, keep_alive: bool = True) -> Answer:
        """Requests a URL that `clean_url` returned, and stores its image if it is wanted.

        keep_alive: whether to keep the connection for further requests. OSError: the disk's, never
        the network's.
        """
        session, name = self._web, None
        headers = {} if keep_alive else {"Connection": "close"}
        if (port := self._hosts.port(url.host)) is not None:
            # The name keeps connections apart: one host's stray bytes must not answer for another.
            session, name = self._local, url.host
            headers["Host"] = url.raw_authority
            url = URL(f"http://{LOOPBACK}:{port}{url.raw_path_qs}", encoded=True)
        code: int | None = None
        try:
            async with session.get(
                url, headers=headers, allow_redirects=False, server_hostname=name
            ) as response:
                code = response.status
                if code in (200, 203):
                    return await self._receive(response)
                return _read_head(response)
        except RejectedError as error:
            result = Result(error.status, str(error), http_status=code)
            return Answer(result, retry=result.is_retryable)
        except _NETWORK_ERRORS as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # this machine's fault, not the host's
            status, message, retry = self._describe(error)
            unanswered = code is None and not isinstance(error, _ABOUT_THE_LINK)
            return Answer(
                Result(status, message, http_status=code),
                retry,
                # Also in the middle of a body: a host that stalls is no use.
                silent=status == "timeout" or (unanswered and status != "refused_address"),
            )

    async def _receive(self, response: aiohttp.ClientResponse) -> Answer:
        """Reads the body into a temporary file and saves the image. RejectedError: it is none."""
        code, length = response.status, response.content_length
        max_bytes = self._options.max_bytes
        if length is not None and length > max_bytes:
            return self._too_large(code, length)
        with self._store.new_file() as file:
            size, checked = 0, False
            async for chunk in response.content.iter_any():
                file.write(chunk)
                size += len(chunk)
                if size > max_bytes:
                    return self._too_large(code, max_bytes + 1)
                if not checked and size >= HEAD_BYTES:  # an error page may well be endless
                    file.seek(0)
                    image_format(file.read(HEAD_BYTES))
                    file.seek(size)
                    checked = True
            file.seek(0)
            # Pillow's many small reads are faster without the temporary file's wrappers. Saving
            # takes less than a change of threads does.
            image = self._store.save(io.BytesIO(file.read()) if size <= _SMALL_BYTES else file)
        # Without a length, the end of the body looks like a lost connection.
        unsure = length is None and "Transfer-Encoding" not in response.headers
        return Answer(Result("ok", http_status=code, image=image), unsure and not image.whole)

    def _too_large(self, code: int, min_bytes: int) -> Answer:
        message = f"larger than {self._options.max_mib:g} MiB"
        return Answer(Result("too_large", message, http_status=code, min_bytes=min_bytes))

    def _describe(self, error: Exception) -> tuple[str, str, bool]:
        """Status and message for the ledger, and whether another request may succeed."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                return "timeout", "no connection in time", True
            case TimeoutError():
                return "timeout", f"not finished within {self._options.timeout_s:g} s", True
            case aiohttp.ClientConnectorDNSError():
                return "failed", "the host name does not resolve", True
            case aiohttp.ClientConnectorCertificateError():
                return "failed", "the host's certificate is not valid", False
            case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
                return "failed", "no TLS connection", True
            case aiohttp.ClientConnectorError(os_error=RefusedAddressError() as refused):
                return "refused_address", str(refused), False
            case aiohttp.ClientConnectorError(os_error=reason):
                name = errno.errorcode.get(reason.errno or 0, "")
                return "failed", f"no connection {name}".strip(), True
            case aiohttp.InvalidURL():
                return "failed", "not a URL", False
            case aiohttp.ClientResponseError():
                return "failed", "the response is not valid HTTP", True
            case UnicodeError():
                return "failed", "the host name is invalid", False
        return "failed", "the connection broke", True


def _read_head(response: aiohttp.ClientResponse) -> Answer:
    """What a response without an image says."""
    code = response.status
    if code in _REDIRECTS and response.headers.get("Location"):
        return Answer(Result("failed", http_status=code), location=response.headers["Location"])
    if code in _GONE:
        return Answer(Result("gone", f"HTTP {code}", http_status=code))
    return Answer(
        Result("blocked" if code in _BLOCKED else "failed", f"HTTP {code}", http_status=code),
        retry=code in _RETRYABLE_CODES or code >= 500,
        retry_after=retry_after(response.headers.get("Retry-After", "")),
    )
