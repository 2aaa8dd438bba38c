"""Requests and answers about orders in quarantine; the entry itself is `poller.export.Quarantined`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from poller.web.schemas.base import example


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
