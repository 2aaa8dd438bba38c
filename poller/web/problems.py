"""Problem details (RFC 9457): the body of every answer that reports an error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from poller.monitoring.readiness import LOCKED_OUT

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error that ends a request. Programs read ``kind``, people the sentence ``detail``."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(kind)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)

    def response(self) -> Response:
        """Return the problem as a response; its title is the phrase of the status."""
        body: dict[str, object] = {
            "type": f"urn:order-sync:{self.kind}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = self.errors
        text = json.dumps(body, ensure_ascii=False)
        return Response(text, self.status, self.headers, MEDIA_TYPE)


class LacksScope(Problem):
    """The caller, named as in journals and logs, lacks a scope. ``purpose``: what of it needs it."""

    def __init__(self, who: str, scope: str, purpose: str = "") -> None:
        needed = f", which {purpose} needs" if purpose else ""
        super().__init__(403, "scope", f"{who} lacks the scope {scope}{needed}.")
        self.who = who
        self.scope = scope


def starting() -> Problem:
    """Return the problem of every request before the database is open."""
    return Problem(503, "starting", "the service is waiting for its database.", headers={"Retry-After": "5"})


def database_away() -> Problem:
    """Return the problem of a request that needs a database which does not answer."""
    return Problem(
        503,
        "database",
        "the database cannot be reached or used; `order-sync db check` says why.",
        headers={"Retry-After": "5"},
    )


def locked_out() -> Problem:
    """Return the problem of a request to a process that lacks the key of the database."""
    return Problem(503, "key", LOCKED_OUT.sentence)


class InvalidPart(BaseModel):
    """One part of the request that is invalid, and why."""

    where: str
    what: str


class ProblemShape(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(
        title="Problem",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:order-sync:unknown",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "there is no customer 12.",
                }
            ]
        },
    )

    type: str = Field(description="Identifies the kind of error, for programs.")
    title: str
    status: int
    detail: str = Field(description="One sentence for people; never buyer data.")
    errors: list[InvalidPart] | None = Field(default=None, description="The invalid parts of the request.")
