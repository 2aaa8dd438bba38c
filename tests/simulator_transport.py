"""The simulator behind httpx, without a socket: for tests."""

from __future__ import annotations

import httpx

from connectors.simulator.api import Simulator
from connectors.simulator.messages import Request


def transport(simulator: Simulator) -> httpx.MockTransport:
    """Return an httpx transport that sends every request to ``simulator``, whatever the host.

    A dropped connection raises httpx.RemoteProtocolError and an answer that never comes
    httpx.ReadTimeout, both without delay.
    """

    def answer(request: httpx.Request) -> httpx.Response:
        answered = simulator.handle(
            Request(
                request.method,
                request.url.path,
                request.url.query.decode("ascii"),
                dict(request.headers),
                request.content,
            )
        )
        if answered.disturbance == "hang":
            raise httpx.ReadTimeout("The simulator does not answer.", request=request)
        if answered.disturbance == "drop":
            raise httpx.RemoteProtocolError("The simulator dropped the connection.", request=request)
        # A stream, so that a client can read it as from a socket.
        stream = httpx.ByteStream(answered.body)
        return httpx.Response(answered.status, headers=dict(answered.headers), stream=stream)

    return httpx.MockTransport(answer)
