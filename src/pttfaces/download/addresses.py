"""Restricts what may be fetched to http and https URLs and to public addresses.

An address is checked where the socket is made, after every look-up and every redirect: a name whose
second look-up gives a private address is refused then.
"""

import ipaddress
import socket
from typing import Any

from yarl import URL

from pttfaces.download.result import RejectedError

_MAX_LENGTH = 8192
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
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedAddressError(OSError):
    """The address to connect to is not public."""


def clean_url(text: str) -> URL:
    """The URL without credentials and fragment; RejectedError when it may not be fetched."""
    if len(text) > _MAX_LENGTH:
        raise RejectedError("failed", f"a URL of more than {_MAX_LENGTH} characters")
    try:
        url = URL(text)
        scheme, host = url.scheme, url.host or ""
    except ValueError:
        raise RejectedError("failed", "not a URL") from None
    if scheme not in ("http", "https"):
        raise RejectedError("refused_address", "only http and https are fetched")
    if not host:
        raise RejectedError("failed", "a URL without a host")
    last = host.rstrip(".").rpartition(".")[2]
    if ":" not in host and (last.isdigit() or last.startswith("0x")) and not _is_plain_ipv4(host):
        raise RejectedError("refused_address", "a host in disguise: not a plain address")
    if url.raw_user is not None or url.raw_password is not None:
        url = url.with_user(None)
    return url.with_fragment(None) if url.raw_fragment else url


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


def public_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket for one `getaddrinfo` entry; RefusedAddressError unless its address is public."""
    family, kind, protocol, _, address = info
    if not is_public(address[0]):
        raise RefusedAddressError("not a public address")
    return socket.socket(family, kind, protocol)


def _is_plain_ipv4(host: str) -> bool:
    try:
        return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False
