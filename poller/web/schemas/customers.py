"""Requests and answers about customers; the customer itself is `poller.export.Customer`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from poller.web.dependencies import Word
from poller.web.schemas.base import CustomerId, LabelKey, Text, example
from store.origins import ADDRESS_PARTS


class AddressEdit(BaseModel):
    """Parts of an address; null or an empty text removes one."""

    model_config = example(line1="1 High Street", city="Leeds", postal_code="LS1 1AA", country="GB")
    name: Text | None = None
    company: Text | None = None
    line1: Text | None = None
    line2: Text | None = None
    line3: Text | None = None
    city: Text | None = None
    county: Text | None = None
    state: Text | None = None
    postal_code: Text | None = None
    country: Text | None = None
    phone: Text | None = None


class CustomerEdit(BaseModel):
    """Fields to set; null or an empty text removes one, fields left out stay as they are."""

    model_config = example(price_list="Trade", discount_percent="2.5", labels={"segment": "B2B"})
    external_id: Text | None = None
    name: Text | None = None
    company: Text | None = None
    email_1: Text | None = None
    email_2: Text | None = None
    email_3: Text | None = None
    phone: Text | None = None
    billing: AddressEdit | None = None
    delivery: AddressEdit | None = None
    price_list: Text | None = None
    currency: Text | None = None
    tax_code: Text | None = None
    discount_percent: Text | None = Field(default=None, description="A decimal string, 0 to 100.")
    labels: dict[LabelKey, Text | None] = Field(default_factory=dict, max_length=100)

    def field_values(self) -> dict[str, str]:
        """Map the fields that were sent, as ``poller.customers.fields`` names them; empty texts remove."""
        values: dict[str, str] = {}
        for name in self.model_fields_set - {"labels", "business"}:
            value = getattr(self, name)
            if name not in ("billing", "delivery"):
                values[name] = value or ""
            elif value is None:
                values.update((f"{name}_{part}", "") for part in ADDRESS_PARTS)
            else:
                values.update(
                    (f"{name}_{part}", getattr(value, part) or "") for part in value.model_fields_set
                )
        return values

    def label_texts(self) -> list[str]:
        """Return the labels as ``key=value``, as on the command line."""
        return [f"{key}={value or ''}" for key, value in self.labels.items()]


class NewCustomer(CustomerEdit):
    """A new customer; at least one field."""

    model_config = example(
        business="acme", name="Bob Example", email_1="bob@example.com", delivery={"country": "GB"}
    )
    business: Word | None = Field(default=None, description="Required if there are several.")


class Changed(BaseModel):
    """The result of a change, without buyer data. The ETag is that of the changed record."""

    model_config = example(customer_id=1041, changed=["price_list"], stops_recognising=0)
    customer_id: int
    changed: list[str]
    stops_recognising: int = Field(
        description="Erased e-mails that were dropped: a buyer who orders with one again is a new customer."
    )


class SearchRequest(BaseModel):
    model_config = example(email="bob@example.com")
    email: Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^\x00-\x1f]+$")]


class MergeRequest(BaseModel):
    """The customer to merge into the one in the address."""

    model_config = example(other_id=1042, keep_emails=["bob@example.com"])
    other_id: CustomerId
    keep_emails: list[Text] | None = Field(
        default=None,
        max_length=3,
        description="Main e-mails to keep; by default as many as there is room for.",
    )


class MergePreview(BaseModel):
    """What a merge would do. Send its ETag as If-Match to merge exactly as previewed."""

    model_config = example(
        customer_id=1041,
        other_id=1042,
        moved=3,
        emails=["x1y2z3@marketplace.amazon.co.uk", "bob@example.com"],
        stopping=[],
        filled=["phone"],
        labels=[],
    )
    customer_id: int
    other_id: int
    moved: int = Field(description="Number of orders that move.")
    emails: list[str | None] = Field(description="Main e-mails after the merge.")
    stopping: list[str | None] = Field(description="Main e-mails that will no longer match.")
    filled: list[str] = Field(description="Fields taken from the other customer.")
    labels: list[str] = Field(description="Labels taken from the other customer.")


class Merged(BaseModel):
    model_config = example(customer_id=1041, other_id=1042, moved=3)
    customer_id: int
    other_id: int
    moved: int


class UnmergeRequest(BaseModel):
    model_config = example(leave=[])
    leave: list[Text] = Field(
        default_factory=list,
        max_length=3,
        description="E-mails that may stay with the other customers who have them now.",
    )


class Unmerged(BaseModel):
    model_config = example(customer_id=1042, kept_id=1041, moved=3, arrived=1, stayed=0, entered=0, lost=0)
    customer_id: int
    kept_id: int
    moved: int
    arrived: int = Field(description="Those of them that arrived after the merge.")
    stayed: int = Field(description="Orders that arrived after the merge and stay with the kept customer.")
    entered: int = Field(
        description="E-mails that stay with the kept customer, as they were entered there after the merge."
    )
    lost: int = Field(
        description="E-mails that no customer has now, as they were taken off the kept one after the merge."
    )


class Pair(BaseModel):
    model_config = example(customer_id=1041, other_id=1042, score=0.9, reasons=["name_and_postcode"])
    customer_id: int
    other_id: int
    score: float
    reasons: list[str]


class Duplicates(BaseModel):
    items: list[Pair]
    total: int
