"""What both web clients share: who they say they are, whom they reach, and how they connect.

The User-Agent, the Retry-After header, certificates, proxies, and which addresses are public.
`LoopbackHosts` maps host names to servers on this machine (the embedded demo board, a test's
server, a local mirror); requests to all other names go to the network.
"""

import asyncio
import email.utils
import ipaddress
import os
import re
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import certifi
from aiohttp.abc import ResolveResult
from aiohttp.client_proto import ResponseHandler
from publicsuffixlist import PublicSuffixList
from requests.utils import get_environ_proxies, select_proxy
from yarl import URL

from pttfaces import __version__
from pttfaces.errors import ParamsError

AGENT = "pttfaces"  # as robots.txt names it
LOOPBACK = "127.0.0.1"
LOOPBACK_VARIABLE = "PTTFACES_LOOPBACK_HOSTS"
CONTACT_VARIABLE = "PTTFACES_CONTACT"

_CONTACT = re.compile(
    r"(?:mailto:)?[^\s@()<>\"]+@[^\s@()<>\"]+\.[^\s@()<>\"]+|https?://[^\s()<>\"/]+\.[^\s()<>\"]+",
    re.ASCII,
)
# Python's tables call these global, some in older versions only; none is an image host's.
_REFUSED = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # shared by providers; contains a cloud's metadata service
        "168.63.129.16/32",  # Azure's metadata service
        "192.0.0.0/24",  # protocol assignments; contains a cloud's metadata service
        "192.88.99.0/24",
        "2001::/32",  # Teredo, and 6to4 below: an IPv4 address in disguise
        "2002::/16",
        "3fff::/20",
    )
]
_UNICAST = ipaddress.ip_network("2000::/3")
_FAKE_IP = ipaddress.ip_network("198.18.0.0/15")  # for benchmarks (RFC 2544), so free for proxies
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_READ_AHEAD = 2**18  # bytes buffered of one connection, at most about twice as many
_DNS_S = 300
REDIRECTS = (301, 302, 303, 307, 308)


class RefusedAddressError(OSError):
    """The address to connect to is not public."""


# What `HttpClient.request` and reading its responses raise, apart from errors of this machine.
NETWORK_ERRORS = (
    aiohttp.ClientError,
    RefusedAddressError,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    UnicodeError,  # of a host's name
)


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


class HttpClient:
    """Connections to `hosts`, to proxies and to the network; an asynchronous context manager.

    allow_networks: None for connections to any address; else only to public ones and those in these
    networks (see `check_address`). What a proxy connects to is the proxy's decision: only an IP
    address in a URL is checked there. cookies: keep those that sites set. resend: send a GET again
    at once where the connection ends without a response. options: of aiohttp's sessions.
    ParamsError: see `ssl_context` and `user_agent`.
    """

    def __init__(
        self,
        hosts: LoopbackHosts,
        allow_networks: Sequence[str] | None = None,
        cookies: bool = False,
        resend: bool = True,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        self._hosts, self._allow_networks = hosts, allow_networks
        self._cookies, self._resend, self._session_options = cookies, resend, options
        self._ssl, self._headers = ssl_context(), {"User-Agent": user_agent(), **(headers or {})}
        self._sessions: dict[tuple[bool, type], aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for session in self._sessions.values():
            await session.close()

    def request(
        self,
        method: str,
        url: URL,
        connection: type[ResponseHandler] = ResponseHandler,
        **options: Any,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """The response to a request, a redirect as it comes.

        connection: another class serves one response only. options: of aiohttp's requests.
        Raises NETWORK_ERRORS, or ParamsError as `proxy_for` does.
        """
        proxy, checked = None, False
        if self._hosts.port(url.raw_host) is not None:
            url = url.with_scheme("http")
        elif not (proxy := proxy_for(str(url.origin()))):
            checked = self._allow_networks is not None
        elif self._allow_networks is not None:
            with suppress(ValueError):  # a name, which the proxy resolves
                check_address(url.raw_host or "", self._allow_networks)
        session = self._session(checked, connection)
        return session.request(method, url, proxy=proxy, allow_redirects=False, **options)

    def _session(self, checked: bool, connection: type[ResponseHandler]) -> aiohttp.ClientSession:
        """checked: for public addresses only, and not for a proxy or this machine."""
        if (checked, connection) not in self._sessions:
            allowed = self._allow_networks or ()
            connector = aiohttp.TCPConnector(
                limit=0,
                ssl=self._ssl,
                resolver=_Resolver(self._hosts),
                ttl_dns_cache=_DNS_S,
                force_close=connection is not ResponseHandler,
                socket_factory=(lambda info: public_socket(info, allowed)) if checked else None,
            )
            connector._factory = partial(connection, loop=asyncio.get_running_loop())
            session = aiohttp.ClientSession(
                connector=connector,
                # unsafe: also of hosts without a name
                cookie_jar=(
                    aiohttp.CookieJar(unsafe=True) if self._cookies else aiohttp.DummyCookieJar()
                ),
                headers=self._headers,
                read_bufsize=_READ_AHEAD,
                **self._session_options,
            )
            session._retry_connection = self._resend
            self._sessions[checked, connection] = session
        return self._sessions[checked, connection]


class _Resolver(aiohttp.ThreadedResolver):
    """Leads the names of `LoopbackHosts` to their ports, and resolves all others.

    The names keep connections and cookies apart: one host's stray bytes must not answer for
    another.
    """

    def __init__(self, hosts: LoopbackHosts) -> None:
        super().__init__()
        self._hosts = hosts

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        served = self._hosts.port(host)
        if served is None:
            return await super().resolve(host, port, family)
        return [
            ResolveResult(
                hostname=host, host=LOOPBACK, port=served, family=socket.AF_INET, proto=0, flags=0
            )
        ]


def read_chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The decoded body of a response, in pieces of bounded size."""
    chunks: AsyncIterator[bytes] = response.content.iter_any()
    is_x_gzip = response.headers.get("Content-Encoding", "").lower() == "x-gzip"
    return _unzipped(chunks) if is_x_gzip else chunks  # aiohttp knows the name gzip only


def user_agent() -> str:
    """The User-Agent header, with the contact that the environment variable PTTFACES_CONTACT names.

    ParamsError: that is neither a mail address nor a web address.
    """
    contact = os.environ.get(CONTACT_VARIABLE, "").strip()
    if contact and not (contact.isascii() and _CONTACT.fullmatch(contact)):
        raise ParamsError(
            f"{CONTACT_VARIABLE} is {contact!r}; expected a mail address or a web address "
            "(https://…) by which a site's owner can reach you."
        )
    about = f"contact: {contact}" if contact else "one polite client, see its README"
    return f"{AGENT}/{__version__} (research crawler; {about})"


def ssl_context() -> ssl.SSLContext:
    """The certificates to trust: those of REQUESTS_CA_BUNDLE (a file or a folder), or of
    SSL_CERT_FILE, or else the system's and certifi's.

    ParamsError: a variable names no file with certificates.
    """
    name = next((n for n in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if os.environ.get(n)), "")
    path = os.environ[name] if name else certifi.where()
    context = ssl.create_default_context()
    if name == "REQUESTS_CA_BUNDLE":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        is_folder = Path(path).is_dir()
        context.load_verify_locations(**{"capath" if is_folder else "cafile": path})
    except (OSError, ssl.SSLError):
        raise ParamsError(
            f"the environment variable {name} is {path!r}; expected a file with certificates in "
            "PEM format."
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    return context


@lru_cache(4096)  # the environment is searched for long, and does not change
def proxy_for(root: str) -> str | None:
    """The proxy to connect to a site through, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY or
    the system's settings; None to connect directly, always so to this machine.

    root: the scheme and host of a URL. ParamsError: a proxy of another kind than HTTP's.
    """
    host = urlsplit(root).hostname or ""
    with suppress(ValueError):
        if host == "localhost" or ipaddress.ip_address(host).is_loopback:
            return None
    proxy = select_proxy(root, get_environ_proxies(root))
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    kind = urlsplit(proxy).scheme
    if kind not in ("http", "https"):
        raise ParamsError(
            f"the proxy of the environment is of the kind {kind}://; expected http://, or NO_PROXY "
            "with the hosts to connect to directly."
        )
    return proxy


def is_public(text: str) -> bool:
    """Whether an IP address, as `getaddrinfo` gives it, belongs to the public internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:  # networks without IPv4 reach its servers under this prefix
            return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
        if address not in _UNICAST:
            return False
    if address.is_multicast or not address.is_global:
        return False
    return not any(address in network for network in _REFUSED if network.version == address.version)


def check_address(text: str, allowed: Iterable[str] = ()) -> None:
    """RefusedAddressError, unless an IP address is public or in one of the allowed networks, which
    are in CIDR notation."""
    if is_public(text):
        return
    address = ipaddress.ip_address(text.partition("%")[0])
    if any(address in ipaddress.ip_network(network) for network in allowed):
        return
    if address in _FAKE_IP:
        raise RefusedAddressError(
            "not a public address: a local proxy answers for DNS (fake IP, 198.18.0.0/15); see "
            "download.allow_networks"
        )
    raise RefusedAddressError("not a public address")


def public_socket(info: tuple[Any, ...], allowed: Iterable[str] = ()) -> socket.socket:
    """A socket for one `getaddrinfo` entry; RefusedAddressError as in `check_address`."""
    family, kind, protocol, _, address = info
    check_address(address[0], allowed)
    return socket.socket(family, kind, protocol)


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


def site_name(host: str) -> str:
    """The registered domain of a host name: images.example.co.uk → example.co.uk.

    An IP address, or a name without one, is a site of its own.
    """
    if host.count(".") < 2:
        return host  # whatever the list says, which takes a tenth of a second to read
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return host
    return _suffixes().privatesuffix(host.rstrip(".")) or host


@cache
def _suffixes() -> PublicSuffixList:
    # The list that the package brings. Its private part would part an operator's customers.
    return PublicSuffixList(only_icann=True)


async def _unzipped(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        async for chunk in chunks:
            while chunk:
                yield unzip.decompress(chunk, _READ_AHEAD)
                chunk = unzip.unconsumed_tail
    except zlib.error:
        raise aiohttp.ClientPayloadError("not gzip") from None
    if not unzip.eof:
        raise aiohttp.ClientPayloadError("the end is missing")
