"""Requests and answers about verifications; the verification itself is `poller.export.Verification`."""

from __future__ import annotations

from pydantic import BaseModel

from poller.web.dependencies import Word
from poller.web.schemas.base import PeriodRequest, example
from store.verification_records import By, VerificationState


class VerificationRequest(PeriodRequest):
    model_config = example(**{"marketplace": "UK", "from": "2026-05-01", "to": "2026-06-01", "repair": True})
    by: By = "report"
    repair: bool = False
    account: Word | None = None


class VerificationBegun(BaseModel):
    model_config = example(id=7, state="reading")
    id: int
    state: VerificationState
