"""What a request says about itself: its client, its cookies, the page that sent it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from config.values import Network, is_loopback

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

Header = tuple[str, str]

_COOKIE_VALUE = re.compile(r"[A-Za-z0-9_-]{20,100}")


@dataclass(frozen=True, slots=True)
class Front:
    """How people reach the service.

    ``public_url``: the address that they open, if a proxy makes it another than the service's own.
    ``proxies``: the networks of proxies that name the client in X-Forwarded-For.
    """

    public_url: str | None = None
    proxies: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The parts of a request that decide access. Header names are in lower case.

    ``client``: the address that it came from (`client_of`).
    """

    method: str
    path: str
    client: str
    headers: Sequence[Header]

    def header_values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def host(self) -> str:
        """The Host header; empty if it is missing or there are several."""
        values = self.header_values("host")
        return values[0] if len(values) == 1 else ""


def url_of(public_url: str | None, host: str, port: int) -> str:
    """Return the URL that people open, for a service that listens on this host and port."""
    if public_url is not None:
        return public_url
    here = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # every address, so also this machine's
    return f"http://[{here}]:{port}" if ":" in here else f"http://{here}:{port}"


def client_of(peer: str, headers: Sequence[Header], proxies: Sequence[Network]) -> str:
    """Return the address of the client that a connection from ``peer`` carries a request of.

    Each proxy appends the address that it was reached from, so the list is read from its end, as far as
    proxies of ours have written it: what stands before may be anyone's invention.
    """
    listed = [
        part.strip() for name, value in headers if name == "x-forwarded-for" for part in value.split(",")
    ]
    client = peer
    while listed and _is_in(client, proxies):
        named = listed.pop()
        try:
            client = str(ip_address(named))
        except ValueError:
            break
    return client


def _is_in(address: str, networks: Sequence[Network]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


def host_of(text: str) -> str:
    """Return the host of a Host header, without its port."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0].lower()


def is_secure(request: RequestInfo, front: Front) -> bool:
    """Return True if the browser's connection is encrypted: always, except for a browser on this machine."""
    if front.public_url is not None:
        return front.public_url.startswith("https:")
    return not is_loopback(host_of(request.host))


def is_of_other_page(request: RequestInfo, front: Front) -> bool:
    """Return True if a page of another origin sent the request.

    Browsers say so with every change, and no page can make them say something else. Another port of the
    same host is another origin, although both share their cookies.
    """
    if any(site not in ("same-origin", "none") for site in request.header_values("sec-fetch-site")):
        return True
    return any(
        origin != front.public_url and (not request.host or origin.partition("://")[2] != request.host)
        for origin in request.header_values("origin")
    )


def cookie_values(request: RequestInfo, name: str) -> list[str]:
    """Return the values that the browser sent for a cookie of ours, in the form that we give them."""
    pairs = (pair.partition("=") for header in request.header_values("cookie") for pair in header.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]


def cookie(request: RequestInfo, name: str) -> str | None:
    """Return a cookie of ours; None without one, with several, or with one that we never made."""
    values = cookie_values(request, name)
    return values[0] if len(values) == 1 and _COOKIE_VALUE.fullmatch(values[0]) else None
