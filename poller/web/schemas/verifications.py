"""Requests and answers about verifications."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from poller.web.dependencies import Word
from poller.web.schemas.base import example
from store.verification_records import By, FetchOutcome, FindingKind, VerificationState


class Finding(BaseModel):
    order_id: str
    what: FindingKind
    created_at: str | None
    last_updated_at: str | None
    outcome: FetchOutcome | None


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


class Verification(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: int
    account: str
    marketplace: str
    lower: str = Field(alias="from")
    upper: str = Field(alias="to")
    asked_to: str
    compared_to: str
    by: By
    state: VerificationState
    listed: int
    before_start: int
    missing: int
    older: int
    quarantined: int
    unknown: int
    still_missing: int
    orders: list[Finding]
    started_at: str | None
    finished_at: str | None
    message: str | None


class VerificationBegun(BaseModel):
    model_config = example(id=7, state="reading")
    id: int
    state: VerificationState
