"""Connections to receivers: judged by the address that is connected to, wherever its name has led before."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Collection, Iterable, Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from config.addresses import parse_host, reach_of

REQUEST_TIMEOUT = httpx.Timeout(10.0, connect=5.0)
MAX_CONNECTIONS = 8
USER_AGENT = "amazon-order-sync"


class AddressRefused(Exception):
    """A receiver's name leads to no address that may be connected to. The message says why, not where."""


def new_client(url: str, private_hosts: Collection[str]) -> httpx.Client:
    """Return a client for one receiver. Plain http stays on this machine and never uses a proxy.

    ``private_hosts`` are the names that may lead to a private address. A proxy of the environment connects
    itself, and judges itself.
    """
    scheme = urlsplit(url).scheme
    proxy = _proxy_of(url) if scheme == "https" else None
    judge = _Judge(private_hosts, only_here=scheme == "http")
    return httpx.Client(
        timeout=REQUEST_TIMEOUT,
        follow_redirects=False,
        headers={"user-agent": USER_AGENT},
        limits=httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
        transport=_Transport(judge) if proxy is None else None,
        proxy=proxy,
    )


def _proxy_of(url: str) -> str | None:
    """Return the URL of the environment's proxy for an https URL; None without one."""
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or proxy_bypass(urlsplit(url).hostname or ""):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


class _Judge(httpcore.SyncBackend):
    """Opens connections to permitted addresses only."""

    def __init__(self, private_hosts: Collection[str], *, only_here: bool) -> None:
        self._private_hosts = private_hosts
        self._only_here = only_here

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first permitted address that answers. Raises AddressRefused if none is permitted."""
        refused, failure = "", None
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        for *_, (address, *_) in found:
            reason = self._why_not(host, str(address))
            if reason is not None:
                refused = reason
                continue
            try:
                return super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        if failure is not None:
            raise failure
        raise AddressRefused(refused or "its name leads to no address")

    def _why_not(self, host: str, text: str) -> str | None:
        address = ip_address(text.partition("%")[0])
        reach = reach_of(address)
        if reach == "forbidden":
            return "its name leads to a link-local, multicast, unspecified or metadata address"
        if self._only_here and not address.is_loopback:
            return "its name does not lead to this machine"
        if reach == "private" and not self._may_be_private(host):
            return "its name leads into a private network and is not in ORDER_SYNC_PRIVATE_WEBHOOK_HOSTS"
        return None

    def _may_be_private(self, host: str) -> bool:
        """Return True for an address, which was chosen as such, for this machine, and for permitted names."""
        name = host.lower().rstrip(".")
        return parse_host(host) is not None or name == "localhost" or name in self._private_hosts


class _Transport(httpx.BaseTransport):
    """httpx's transport over connections that a judge opens."""

    def __init__(self, judge: _Judge) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS,
            keepalive_expiry=5.0,
            network_backend=judge,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        answer = self._pool.handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Stream(answer))

    def close(self) -> None:
        self._pool.close()


class _Stream(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        assert not isinstance(self._answer.stream, bytes)
        yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()
