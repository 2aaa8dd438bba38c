"""How long to wait between failed attempts to sign in: longer with each, by name and network. Pure.

A name cannot be locked from elsewhere: what counts is who tries from where. A network that tries many names
is slowed down as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from store.sign_in_failures import Count, Counts

MAX_FAILURES = 10
"""After this many failures with a name from a network, it waits for the longest time."""


@dataclass(frozen=True, slots=True)
class Limit:
    """``free``: failures without a wait. Each one from then on doubles it, from a second on.

    From ``most`` failures on the wait is the ``longest``. One failure is forgotten after each ``forgotten``.
    """

    free: int
    most: int
    longest: timedelta
    forgotten: timedelta


PAIR = Limit(free=3, most=MAX_FAILURES, longest=timedelta(minutes=15), forgotten=timedelta(hours=1))
NETWORK = Limit(free=20, most=27, longest=timedelta(minutes=1), forgotten=timedelta(minutes=1))
"""Many people may share a network: it waits for less, and only after more failures."""


def attempt(counts: Counts, now: datetime) -> Counts | datetime:
    """Count an attempt before it is checked. Return the counts with it, or when the next one is allowed."""
    limits: Mapping[Limit, Count] = {PAIR: counts.pair, NETWORK: counts.network}
    allowed_at = max(count.at + wait(limit, count.failures) for limit, count in limits.items())
    if now < allowed_at:
        return allowed_at
    pair, network = (Count(_counted(limit, count, now) + 1, now) for limit, count in limits.items())
    return Counts(pair, network)


def wait(limit: Limit, failures: int) -> timedelta:
    """Return how long to wait after this many failures."""
    if failures <= limit.free:
        return timedelta()
    if failures >= limit.most:
        return limit.longest
    return min(limit.longest, timedelta(seconds=2 ** (failures - limit.free - 1)))


def _counted(limit: Limit, count: Count, now: datetime) -> int:
    return max(0, count.failures - (now - count.at) // limit.forgotten)


def network_of(address: str) -> str:
    """Return what stands for all addresses that one person has: of IPv6 the network of 64 bits."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    if isinstance(known, IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(ip_network((known, 64), strict=False))
    return str(known)
