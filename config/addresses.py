"""Which network an IP address belongs to, also one that is written within another."""

from __future__ import annotations

import unicodedata
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

Reach = Literal["public", "private", "forbidden"]
"""``private``: this machine and its networks. ``forbidden``: clouds' metadata, and no address of a server."""

_METADATA = frozenset(
    ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")
)
"""Of Alibaba, Azure, AWS and Google; the others' are link-local."""

_FORBIDDEN = (  # Oracle's metadata are in the second
    IPv4Network("0.0.0.0/8"),
    IPv4Network("192.0.0.0/24"),
    IPv4Network("240.0.0.0/4"),
)
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"))
"""Their last 32 bits are an IPv4 address: NAT64, NAT64 of one's own, and the old compatible form."""

_DOTS = str.maketrans("\u3002\uff0e\uff61", "...")
"""Full stops of other scripts, which separate the parts of a name, too."""


def plain_host(host: str) -> str:
    """Return a URL's host as it is resolved: without full-width letters, digits and dots."""
    return unicodedata.normalize("NFKC", host).translate(_DOTS)


def parse_host(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a URL's host is; None if it is a name."""
    try:
        return ip_address(plain_host(host))
    except ValueError:
        return None


def reach_of(address: IPv4Address | IPv6Address) -> Reach:
    """Return how far an address reaches; one that has an IPv4 address within it goes by that."""
    if isinstance(address, IPv6Address):
        inner = _inner(address)
        if inner is not None:
            return reach_of(inner)
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return "forbidden"
    if any(address in network for network in _FORBIDDEN if network.version == address.version):
        return "forbidden"
    return "public" if address.is_global else "private"


def _inner(address: IPv6Address) -> IPv4Address | None:
    if address.is_loopback or address.is_unspecified:
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _TRANSLATED):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
