"""Requests and answers about verifications; the verification itself is `poller.export.Verification`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from poller.web.dependencies import Word
from poller.web.schemas.base import example
from store.verification_records import By, VerificationState


class VerificationRequest(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"marketplace": "UK", "from": "2026-05-01", "to": "2026-06-01", "repair": True}]
        },
    )
    marketplace: Word
    lower: Word = Field(alias="from", description="First day or time (UTC), for example 2026-01-31.")
    upper: Word = Field(alias="to", description="Day after the last one, or a time (UTC).")
    by: By = "report"
    repair: bool = False
    account: Word | None = None


class VerificationBegun(BaseModel):
    model_config = example(id=7, state="reading")
    id: int
    state: VerificationState
