"""Requests and answers about orders; the order itself is `poller.export.Order`."""

from __future__ import annotations

from pydantic import BaseModel, Field

from poller.web.dependencies import Word
from poller.web.schemas.base import example
from store.records import Basis


class Explanation(BaseModel):
    """Why an order has its customer, or none; with the numbers of the customer rules."""

    model_config = example(
        order_id="203-1234567-1234567",
        account="acme",
        customer_id=1041,
        match_basis="created",
        headline="Order 203-1234567-1234567 (acme, UK, UNSHIPPED) belongs to customer 1041: new customer.",
        reasons=["R6: no customer had its e-mail, so a new one was created."],
        buyer_data="Buyer data is kept until 2026-07-06.",
    )

    order_id: str
    account: str
    customer_id: int | None
    match_basis: Basis | None
    headline: str
    reasons: list[str]
    buyer_data: str = Field(description="How long the order's buyer data is kept, and why.")


class FetchRequest(BaseModel):
    model_config = example(account="acme")
    account: Word


class Fetched(BaseModel):
    model_config = example(order_id="203-1234567-1234567", account="acme", message="…: changed, stored")
    order_id: str
    account: str
    message: str
