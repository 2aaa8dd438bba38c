"""Requests and answers about orders in quarantine."""

from __future__ import annotations

from pydantic import BaseModel, Field

from poller.web.schemas.base import example


class Quarantined(BaseModel):
    model_config = example(
        order_id="203-1234567-1234567",
        account="acme",
        marketplace="UK",
        reason="orderItems: is missing",
        attempts=2,
        next_attempt_at="2026-06-01T10:40:00Z",
        first_seen_at="2026-06-01T09:40:00Z",
    )
    order_id: str
    account: str
    marketplace: str | None
    reason: str
    attempts: int
    next_attempt_at: str | None
    first_seen_at: str | None


class QuarantinedWhole(Quarantined):
    model_config = example(
        order_id="203-1234567-1234567",
        account="acme",
        marketplace="UK",
        reason="orderItems: is missing",
        attempts=2,
        next_attempt_at=None,
        first_seen_at="2026-06-01T09:40:00Z",
        payload='{"orderId": "203-1234567-1234567"}',
    )
    payload: str | None = Field(
        description="What Amazon sent, as JSON text; *** without the scope buyer-data; null once erased."
    )


class RetryRequest(BaseModel):
    model_config = example(refetch=True)
    refetch: bool = Field(
        default=False, description="Refetch the order from Amazon instead of applying the stored payload."
    )


class Retried(BaseModel):
    model_config = example(order_id="203-1234567-1234567", account="acme", stored=True, message=None)
    order_id: str
    account: str
    stored: bool
    message: str | None = Field(description="Why it stays in quarantine.")
