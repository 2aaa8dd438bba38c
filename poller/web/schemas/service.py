"""Answers about readiness and changes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from poller.monitoring.status import Why
from poller.web.schemas.base import example
from store.change_records import EventKind


class NotReady(BaseModel):
    why: Why
    subject: str = Field(description="The source, or account and marketplace of a gap.")
    sentence: str


class Ready(BaseModel):
    """``reasons``: limits that are exceeded, for callers with the scope read; null for all others."""

    model_config = example(
        status="not ready",
        reasons=[
            {"why": "success", "subject": "acme:EU", "sentence": "the newest success of acme:EU is 2 h old."}
        ],
    )
    status: Literal["ready", "not ready"]
    reasons: list[NotReady] | None


class OrderEvent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    account: str
    order_id: str
    marketplace: str | None
    customer_id: int | None
    version: int
    position: str


class CustomerEvent(BaseModel):
    model_config = ConfigDict(extra="forbid")
    business: str
    customer_id: int
    merged_into: int | None
    version: int
    position: str


class Event(BaseModel):
    """One change of a record; ``version`` grows with each change of it."""

    model_config = ConfigDict(extra="forbid")
    type: EventKind
    timestamp: str
    data: OrderEvent | CustomerEvent


class Changes(BaseModel):
    """Events, oldest first. ``position``: continue from here; ``more``: further events exist."""

    model_config = example(
        events=[
            {
                "type": "order.changed",
                "timestamp": "2026-06-01T09:40:00Z",
                "data": {
                    "account": "acme",
                    "order_id": "026-1234567-1234567",
                    "marketplace": "UK",
                    "customer_id": 17,
                    "version": 4711,
                    "position": "4711.2.99",
                },
            }
        ],
        position="4711",
        more=False,
    )
    events: list[Event]
    position: str
    more: bool


class Health(BaseModel):
    model_config = example(status="ok")
    status: Literal["ok"]
