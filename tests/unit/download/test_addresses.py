"""Only http and https, and only addresses of the public internet."""

import socket
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pttfaces.download.addresses import clean_url
from pttfaces.download.result import RejectedError
from pttfaces.http import RefusedAddressError, is_public, proxy_for, public_socket

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "198.18.0.1",
    "192.0.2.1",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::127.0.0.1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "2001::1",
    "2002:7f00:1::",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "3fff::1",
    "100::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_is_public_of_a_private_or_reserved_address_is_false(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "151.101.0.193", "2a04:4e42::193", "64:ff9b::808:808"]
)
def test_is_public_of_a_public_address_is_true(address: str) -> None:
    assert is_public(address)


def test_public_socket_for_a_private_address_raises_refused_address_error() -> None:
    info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80))
    with pytest.raises(RefusedAddressError):
        public_socket(info)


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("ftp://i.test/a.jpg", "refused_address"),
        ("file:///etc/passwd", "refused_address"),
        ("data:image/png;base64,AAAA", "refused_address"),
        ("//i.test/a.jpg", "refused_address"),
        ("http://2130706433/", "refused_address"),
        ("http://0177.0.0.1/", "refused_address"),
        ("http://0x7f.1/", "refused_address"),
        ("http://127.1/", "refused_address"),
        ("http:///a.jpg", "failed"),
        ("http://xn--a.test/a.jpg", "failed"),
        ("http://[::1/", "failed"),
        ("http://xn--\x80.test/", "failed"),
        ("http://xn--a.test/", "failed"),
        ("http://i.test:99999/", "failed"),
        ("http://i.test/" + "a" * 9000, "failed"),
    ],
)
def test_clean_url_of_a_url_not_to_be_fetched_raises_rejected_error(url: str, status: str) -> None:
    with pytest.raises(RejectedError) as caught:
        clean_url(url)
    assert caught.value.status == status


def test_clean_url_removes_credentials_and_fragments() -> None:
    assert str(clean_url("http://user:secret@I.Test/a b.jpg#x")) == "http://i.test/a%20b.jpg"


@given(st.text(max_size=40) | st.text(max_size=40).map(lambda text: f"http://{text}"))
def test_clean_url_of_any_text_raises_at_most_rejected_error(text: str) -> None:
    with suppress(RejectedError):
        url = clean_url(text)
        assert url.scheme in ("http", "https")
        assert url.host
        assert url.raw_user is None
        assert str(url).isascii()
        proxy_for(str(url))
