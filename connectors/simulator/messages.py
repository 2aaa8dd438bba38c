"""A request and an answer without any HTTP library, so that both adapters stay a few lines long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qsl

Disturbance = Literal["drop", "hang"]
Query = dict[str, tuple[str, ...]]

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Request:
    """``query`` is the raw query string, undecoded; header names are case-insensitive."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    @property
    def parameters(self) -> Query:
        return _pairs(self.query)

    @property
    def form(self) -> Query:
        return _pairs(self.body.decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    ``drop``: the connection breaks, after ``body`` if there is one (Content-Length then promises more).
    ``hang``: no answer before the client times out.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)
    disturbance: Disturbance | None = None


class Refusal(Exception):
    """A refusal, as Amazon's error list."""

    def __init__(self, status: int, code: str, message: str, details: str = "") -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.body = to_json({"errors": [{"code": code, "message": message, "details": details}]})


def invalid(message: str) -> Refusal:
    return Refusal(400, "InvalidInput", message)


def forbidden(details: str = "") -> Refusal:
    return Refusal(403, "Unauthorized", "This caller may not have the requested resource.", details)


def to_json(value: object) -> bytes:
    return _encode(value).encode()


def html(status: int) -> bytes:
    """Return the HTML page of a proxy in front of the API."""
    title = f"{status} {HTTPStatus(status).phrase}"
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()


def _pairs(text: str) -> Query:
    pairs: dict[str, tuple[str, ...]] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        pairs[name] = (*pairs.get(name, ()), value)
    return pairs
