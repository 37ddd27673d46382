"""Makes one HTTP request and saves the image that is sent, within all limits, in the store.

The scheduler follows redirects and retries. Error messages contain no port, address or time, so
that the ledger is the same in every run.
"""

import errno
import io
import ssl
from typing import NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from pttfaces.config import Download
from pttfaces.download.image_type import HEAD_BYTES, image_format
from pttfaces.download.result import RejectedError, Result
from pttfaces.download.store import ImageStore
from pttfaces.http import (
    NETWORK_ERRORS,
    REDIRECTS,
    HttpClient,
    LoopbackHosts,
    RefusedAddressError,
    read_chunks,
    retry_after,
)

_CONNECT_S = 10.0
_SMALL_BYTES = 2**20  # a file that is read at once
_GONE = (404, 410)
_BLOCKED = (401, 403, 429, 451)
_RETRYABLE_CODES = (403, 408, 425, 429)  # and 5xx; imgur says "over capacity" with 403, too
_MAX_HEAD_BYTES = 2**16
_HEADERS = {
    # Naming formats would invite a host to convert; "text/html" would get imgur's page instead.
    "Accept": "image/*",
    "Accept-Encoding": "identity",
}


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


class ImageClient(HttpClient):
    """Requests images."""

    def __init__(self, hosts: LoopbackHosts, store: ImageStore, options: Download) -> None:
        seconds = options.timeout_s
        timeout = aiohttp.ClientTimeout(seconds, sock_connect=min(seconds, _CONNECT_S))
        super().__init__(hosts, options.allow_networks, headers=_HEADERS, timeout=timeout)
        self._store, self._options = store, options

    async def get(
        self,
        url: URL,
        keep_alive: bool = True,
        connection: type[ResponseHandler] = ResponseHandler,
    ) -> Answer:
        """Requests a URL that `clean_url` returned, and stores its image if it is wanted.

        keep_alive: whether to keep the connection for further requests. OSError: the disk's, never
        the network's.
        """
        headers = {} if keep_alive else {"Connection": "close"}
        code: int | None = None
        try:
            async with self.request("GET", url, connection, headers=headers) as response:
                code = response.status
                if code in (200, 203):
                    return await self._receive(response)
                return _read_head(response)
        except RejectedError as error:
            result = Result(error.status, str(error), http_status=code)
            return Answer(result, retry=result.is_retryable)
        except NETWORK_ERRORS as error:
            if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                raise  # this machine's fault, not the host's
            invalid = isinstance(error, aiohttp.ClientResponseError) and error.message
            if connection is ResponseHandler and invalid and "Content-Length" in invalid:
                return await self.get(url, keep_alive, _LenientConnection)
            return self._describe(error, code)

    async def _receive(self, response: aiohttp.ClientResponse) -> Answer:
        """Reads the body into a temporary file and saves the image. RejectedError: it is none."""
        code, length = response.status, response.content_length
        max_bytes = self._options.max_bytes
        if length is not None and length > max_bytes:
            return self._too_large(code, length)
        with self._store.new_file() as file:
            size, checked = 0, False
            async for chunk in read_chunks(response):
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

    def _describe(self, error: Exception, code: int | None) -> Answer:
        """An error as an answer. code: of the response, if there was one."""

        def failed(
            message: str, status: str = "failed", retry: bool = True, silent: bool = code is None
        ) -> Answer:
            return Answer(Result(status, message, http_status=code), retry, silent)

        match error:
            case aiohttp.ConnectionTimeoutError():
                return failed("no connection in time", "timeout")
            case TimeoutError():  # also in the middle of a body: a host that stalls is no use
                message = f"not finished within {self._options.timeout_s:g} s"
                return failed(message, "timeout", silent=True)
            case aiohttp.ClientConnectorDNSError():
                return failed("the host name does not resolve")
            case aiohttp.ClientConnectorCertificateError():
                return failed("the host's certificate is not valid", retry=False)
            case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
                return failed("no TLS connection")
            case aiohttp.ClientConnectorError(os_error=RefusedAddressError() as refused):
                return self._describe(refused, code)
            case RefusedAddressError():
                return failed(str(error), "refused_address", retry=False, silent=False)
            case aiohttp.ClientProxyConnectionError():
                return failed("no connection to the proxy")
            case aiohttp.ClientConnectorError(os_error=reason):
                name = errno.errorcode.get(reason.errno or 0, "")
                return failed(f"no connection {name}".strip())
            case aiohttp.InvalidURL():
                return failed("not a URL", retry=False, silent=False)
            case aiohttp.ClientHttpProxyError(status=status):
                return failed(f"the proxy answered HTTP {status}")
            case aiohttp.ClientResponseError():
                return failed("the response is not valid HTTP", silent=False)
            case UnicodeError():
                return failed("the host name is invalid", retry=False, silent=False)
        return failed("the connection broke")


class _LenientConnection(ResponseHandler):
    """A connection for one response, whose Content-Length may be repeated, as some caches send it.

    aiohttp's parser refuses it, although equal values may be taken for one (RFC 9112, 6.3).
    """

    _head: bytes | None = b""  # while it comes in

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head += data
            if b"\r\n\r\n" not in self._head and len(self._head) < _MAX_HEAD_BYTES:
                return
            data, self._head = _merge_lengths(self._head), None
        super().data_received(data)


def _merge_lengths(data: bytes) -> bytes:
    """The beginning of a response, with one Content-Length in place of several equal ones."""
    head, end, body = data.partition(b"\r\n\r\n")
    others, values = [], []
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            values += [each.strip() for each in value.split(b",")]
        else:
            others.append(line)
    if len(set(values)) != 1:
        return data
    return b"\r\n".join([*others, b"Content-Length: " + values[0]]) + end + body


def _read_head(response: aiohttp.ClientResponse) -> Answer:
    """What a response without an image says."""
    code = response.status
    if code in REDIRECTS and response.headers.get("Location"):
        return Answer(Result("failed", http_status=code), location=response.headers["Location"])
    if code in _GONE:
        return Answer(Result("gone", f"HTTP {code}", http_status=code))
    return Answer(
        Result("blocked" if code in _BLOCKED else "failed", f"HTTP {code}", http_status=code),
        retry=code in _RETRYABLE_CODES or code >= 500,
        retry_after=retry_after(response.headers.get("Retry-After", "")),
    )
