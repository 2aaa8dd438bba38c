"""Parts that the schemas of several resources share."""

from __future__ import annotations

from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from poller.web.dependencies import LARGEST_ID, Word

T = TypeVar("T")


Text = Annotated[str, StringConstraints(max_length=1000)]


LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^=\x00-\x1f]+$")]


CustomerId = Annotated[int, Field(ge=1, le=LARGEST_ID)]


def example(**values: Any) -> ConfigDict:
    """Return the configuration of a schema that has this example and refuses unknown keys."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class PeriodRequest(BaseModel):
    """A period of a marketplace's orders."""

    marketplace: Word
    lower: Word = Field(alias="from", description="First day or time (UTC), for example 2026-01-31.")
    upper: Word = Field(alias="to", description="Day after the last one, or a time (UTC).")


class Page(BaseModel, Generic[T]):
    """One page of a list. ``next``: the cursor of the next page, null on the last one."""

    items: list[T]
    next: str | None
