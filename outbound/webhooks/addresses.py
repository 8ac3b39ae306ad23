"""Which addresses webhooks may go to: public ones, and networks that a setting names.

Without this check, a caller who registers an endpoint could make orderly send requests inside its
own network.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

URL_CHARACTERS_MAX = 2_000
RESOLVE_SECONDS_MAX = 3.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAT64 = ip_network("64:ff9b::/96")

Address = IPv4Address | IPv6Address


class AddressNotAllowed(OSError):
    """A host has no address that webhooks may go to."""


class NameNotResolved(OSError):
    """A host has no address."""


class AllowedNetworks:
    """Public addresses, and the networks that a setting names, such as "127.0.0.0/8,10.1.0.0/16".

    Only the named networks can be reached without TLS.
    """

    def __init__(self, named: str | None = None) -> None:
        self._named = [ip_network(one.strip()) for one in (named or "").split(",") if one.strip()]

    def allows(self, address: Address, *, is_encrypted: bool) -> bool:
        """Whether a webhook may go to an address."""
        meant = list(_meant(address))
        if all(any(one in network for network in self._named) for one in meant):
            return True
        return is_encrypted and all(_is_public(one) for one in meant)

    def check(
        self, host: str, addresses: Sequence[Address], *, is_encrypted: bool
    ) -> list[Address]:
        """Those of a host's addresses that are allowed; raises AddressNotAllowed if none is."""
        allowed = [one for one in addresses if self.allows(one, is_encrypted=is_encrypted)]
        if not allowed:
            how = "" if is_encrypted else " without TLS"
            raise AddressNotAllowed(f"{host} has no address that webhooks may go to{how}")
        return allowed


def _meant(address: Address) -> Iterator[Address]:
    """The address, or the IPv4 address that it stands for: what a gateway would connect to."""
    if isinstance(address, IPv4Address):
        yield address
        return
    embedded = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        embedded.append(IPv4Address(int(address) & 0xFFFFFFFF))
    found = [one for one in embedded if one is not None]
    yield from found or [address]


def _is_public(address: Address) -> bool:
    # Python counts site-local addresses as global; they are deprecated, but old networks use them.
    if isinstance(address, IPv6Address) and address.is_site_local:
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host; raises NameNotResolved."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_SECONDS_MAX):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        raise NameNotResolved(f"{host} cannot be resolved to an address") from None
    return list(
        dict.fromkeys(ip_address(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found)
    )


def check_url(text: str) -> str:
    """The URL of an endpoint itself; raises ValueError that says what to change."""
    if len(text) > URL_CHARACTERS_MAX:
        raise ValueError(f"must have at most {URL_CHARACTERS_MAX:,} characters")
    if not (text.isascii() and text.isprintable() and " " not in text and "\\" not in text):
        raise ValueError("must be a URL in ASCII, with other characters percent-encoded")
    try:
        url = urlsplit(text)
        port = port_of(url)
    except ValueError:
        raise ValueError("must be a URL such as https://shop.example/webhooks") from None
    if url.scheme not in _DEFAULT_PORTS or not url.hostname or port == 0:
        raise ValueError("must be a URL such as https://shop.example/webhooks")
    if "@" in url.netloc:
        raise ValueError("must have no user name and no password: webhooks are signed instead")
    if "#" in text:
        raise ValueError("must have no fragment (#…)")
    return text


def port_of(url: SplitResult) -> int:
    """The port that a URL names, or that of its scheme."""
    return url.port if url.port is not None else _DEFAULT_PORTS.get(url.scheme, 0)


async def check_reachable(text: str, networks: AllowedNetworks) -> None:
    """Resolves the host of a checked URL; raises AddressNotAllowed or NameNotResolved.

    Here one forbidden address is enough, as a public name with a private address is a mistake or
    an attack. Each connection checks again.
    """
    url = urlsplit(text)
    host, is_encrypted = str(url.hostname), url.scheme == "https"
    for address in await resolve(host, port_of(url)):
        networks.check(host, [address], is_encrypted=is_encrypted)
