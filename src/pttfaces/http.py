"""What both web clients share: who they say they are, whom they reach, and how they connect.

The User-Agent, the Retry-After header, certificates, proxies, and which addresses are public.
`LoopbackHosts` maps host names to servers on this machine (the embedded demo board, a test's
server, a local mirror); requests to all other names go to the network.
"""

import email.utils
import ipaddress
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import certifi
import requests
from publicsuffixlist import PublicSuffixList
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

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


class RefusedAddressError(OSError):
    """The address to connect to is not public."""


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


def proxy_for(url: str) -> str | None:
    """The proxy to request a URL through, by HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY or the
    system's settings; None to connect directly, always so to this machine.

    ParamsError: a proxy of another kind than HTTP's.
    """
    parts = urlsplit(url)
    return _proxy_of_root(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")


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

    def session(
        self, follow_redirects: bool = True, allow_networks: Sequence[str] | None = None
    ) -> requests.Session:
        """A requests session that maps these hosts; responses keep the URL that was requested.

        allow_networks: None for requests to any address; else only to public ones and those in
        these networks (see `check_address`). What a proxy connects to is the proxy's decision.
        """
        session = requests.Session() if follow_redirects else _NoRedirects()
        session.trust_env = False  # `ssl_context` and `proxy_for` decide; no passwords of ~/.netrc
        session.headers["User-Agent"] = user_agent()
        adapter = _Adapter(self, allow_networks)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        return session


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


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends the requests that this thread makes within the block, whatever they wait for.

    `requests` limits each wait for the next bytes only. requests.exceptions.Timeout: the time is
    over.
    """
    deadline = _Deadline()
    timer = threading.Timer(seconds, deadline.expire)
    timer.daemon = True
    token = _DEADLINE.set(deadline)
    timer.start()
    try:
        yield
    except (requests.exceptions.RequestException, OSError):
        if not deadline.expired:
            raise
    finally:
        timer.cancel()
        _DEADLINE.reset(token)
        deadline.close()
    if deadline.expired:
        raise requests.exceptions.Timeout(f"no response within {seconds:g} s")


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


@lru_cache(4096)  # the environment is searched for long, and does not change
def _proxy_of_root(root: str) -> str | None:
    if _is_loopback(urlsplit(root).hostname or ""):
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


@cache
def _suffixes() -> PublicSuffixList:
    # The list that the package brings. Its private part would part an operator's customers.
    return PublicSuffixList(only_icann=True)


def _check_literal(host: str, networks: Sequence[str]) -> None:
    """Refuses an IP address in a URL, which no proxy has to resolve."""
    with suppress(ValueError):  # a name
        try:
            check_address(host, networks)
        except RefusedAddressError as error:
            raise requests.exceptions.ConnectionError(str(error)) from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoRedirects(requests.Session):
    """Returns a redirect as it comes: requests would first read its whole body into memory."""

    def resolve_redirects(self, *_: Any, **__: Any) -> Any:
        return iter(())


class _Deadline:
    """Shuts the connections of requests down when their time is over.

    It has handles of its own: a response may outlive its connection's.
    """

    def __init__(self) -> None:
        self.expired = False
        self._sockets: list[socket.socket] = []

    def watch(self, sock: socket.socket) -> None:
        self._sockets.append(sock.dup())
        if self.expired:
            self.expire()

    def expire(self) -> None:
        self.expired = True
        for sock in self._sockets:
            with suppress(OSError):  # the connection has ended by itself
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


# Of the thread's present request: its deadline, and the networks apart from public addresses, None
# for all.
_DEADLINE: ContextVar[_Deadline | None] = ContextVar("_DEADLINE", default=None)
_NETWORKS: ContextVar[Sequence[str] | None] = ContextVar("_NETWORKS", default=None)


class _Connection(HTTPConnection):
    """A connection that `time_limit` can end, to a public address where that is asked for."""

    _handle: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        networks = _NETWORKS.get()
        sock = super()._new_conn() if networks is None else self._connect_allowed(networks)
        self._handle = sock.dup()  # of the same connection, also once TLS has taken `sock` over
        self._watch()
        return sock

    def _connect_allowed(self, networks: Sequence[str]) -> socket.socket:
        name = self._dns_host
        try:
            found = socket.getaddrinfo(name, self.port, type=socket.SOCK_STREAM)
        except OSError:
            return super()._new_conn()  # fails in the same way, with urllib3's error
        error: Exception | None = None
        for address in dict.fromkeys(str(info[4][0]) for info in found):
            try:
                check_address(address, networks)
                self._dns_host = address
                return super()._new_conn()
            except (RefusedAddressError, NewConnectionError) as failure:
                error = failure
            finally:
                self._dns_host = name
        raise NewConnectionError(self, str(error))

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._watch()
        super().request(*args, **kwargs)

    def close(self) -> None:
        super().close()
        if self._handle:
            self._handle.close()
            self._handle = None

    def _watch(self) -> None:
        deadline = _DEADLINE.get()
        if deadline and self._handle:
            deadline.watch(self._handle)


class _TlsConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _Adapter(HTTPAdapter):
    def __init__(self, hosts: LoopbackHosts, allow_networks: Sequence[str] | None) -> None:
        self._hosts, self._allow_networks = hosts, allow_networks
        self._ssl_context = ssl_context()
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._ssl_context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, ssl_context=self._ssl_context, **kwargs)
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leaves the choice of certificates to `ssl_context`: requests would add certifi's."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        address, headers = self._hosts.resolve(request.url or "")
        resolved = request.copy()
        resolved.url = address
        resolved.headers.update(headers)
        proxy = proxy_for(address)
        kwargs["proxies"] = {"http": proxy, "https": proxy} if proxy else {}
        if proxy and self._allow_networks is not None:
            _check_literal(urlsplit(address).hostname or "", self._allow_networks)
        token = _NETWORKS.set(None if headers or proxy else self._allow_networks)
        try:
            response = super().send(resolved, *args, **kwargs)
        finally:
            _NETWORKS.reset(token)
        response.url, response.request = request.url or "", request
        return response
