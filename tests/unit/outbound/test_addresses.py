"""Webhooks go to public addresses over HTTPS, and to networks that a setting names."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from outbound.webhooks.addresses import AddressNotAllowed, AllowedNetworks, check_url

PUBLIC = AllowedNetworks()
LOOPBACK = AllowedNetworks("127.0.0.0/8, ::1/128")


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_public_addresses_are_allowed_with_tls_only(address: str) -> None:
    assert PUBLIC.allows(ip_address(address), is_encrypted=True)
    assert not PUBLIC.allows(ip_address(address), is_encrypted=False)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "198.18.0.1", "192.0.2.1", "224.0.0.1", "240.0.0.1"),
        *(
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
        ),
        *("2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::", "2001:0:808:808::f5ff:fffe"),
        *("fec0::1", "feff:ffff::1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"),
    ],
)
def test_other_addresses_are_not_allowed(address: str) -> None:
    assert not PUBLIC.allows(ip_address(address), is_encrypted=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_named_network_is_allowed_even_without_tls(address: str) -> None:
    assert LOOPBACK.allows(ip_address(address), is_encrypted=False)
    assert not LOOPBACK.allows(ip_address("10.0.0.1"), is_encrypted=True)


def test_only_allowed_addresses_of_a_name_are_connected_to() -> None:
    found = [ip_address("10.0.0.1"), ip_address("8.8.8.8")]
    assert PUBLIC.check("both", found, is_encrypted=True) == [ip_address("8.8.8.8")]
    with pytest.raises(AddressNotAllowed, match="both has no address"):
        PUBLIC.check("both", found, is_encrypted=False)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example",
        "https://shop.example:8443/a?b=c",
        "http://127.0.0.1:9/x",
        "https://[::1]/",
    ],
)
def test_url_is_valid(url: str) -> None:
    assert check_url(url) == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://shop.example", "must be a URL such as"),
        ("file:///etc/passwd", "must be a URL such as"),
        ("shop.example/webhooks", "must be a URL such as"),
        ("https://", "must be a URL such as"),
        ("https://shop.example:0/", "must be a URL such as"),
        ("https://shop.example:65536/", "must be a URL such as"),
        ("https://[::1/", "must be a URL such as"),
        ("https://olga@shop.example/", "no user name"),
        ("https://olga:secret@shop.example/", "no user name"),
        ("https://shop.example/#top", "no fragment"),
        ("https://shop.example/a b", "in ASCII"),
        ("https://shop.example\\@10.0.0.1/", "in ASCII"),
        ("https://shöp.example/", "in ASCII"),
        ("https://shop.example/\r\nHost: x", "in ASCII"),
        ("https://shop.example/" + "a" * 2_000, "at most 2,000"),
    ],
)
def test_url_is_invalid(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_url(url)
