"""The simulator behind httpx, without a socket: for tests."""

from __future__ import annotations

import httpx

from connectors.simulator.api import Simulator
from connectors.simulator.messages import Request


def transport(simulator: Simulator) -> httpx.MockTransport:
    """An httpx transport whose every request goes to ``simulator``, whatever the host.

    A dropped connection raises httpx.RemoteProtocolError, an answer that never comes
    httpx.ReadTimeout, both at once.
    """

    def answer(request: httpx.Request) -> httpx.Response:
        given = simulator.handle(
            Request(
                request.method,
                request.url.path,
                request.url.query.decode("ascii"),
                dict(request.headers),
                request.content,
            )
        )
        if given.disturbance == "hang":
            raise httpx.ReadTimeout("The simulator does not answer.", request=request)
        if given.disturbance == "drop":
            raise httpx.RemoteProtocolError("The simulator dropped the connection.", request=request)
        # As a stream, so that a client can read it as it would from a socket.
        stream = httpx.ByteStream(given.body)
        return httpx.Response(given.status, headers=dict(given.headers), stream=stream)

    return httpx.MockTransport(answer)
