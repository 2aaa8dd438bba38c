"""Everything that can go wrong with Amazon, grouped by what to do about it.

    ConnectorError
    ├── Retriable                 try the same request again, a little later
    │   ├── Unreachable           unreachable: no answer (refused, dropped, timed out), or status 408
    │   ├── ServerFault           server_fault: status 5xx, whatever the body
    │   └── Garbled               garbled: a 2xx whose body is not what the operation promises, or a 3xx
    ├── Unforeseen                unexpected: a library below raised anything else
    ├── Deferred                  try again no sooner than ``until``
    │   ├── BudgetEmpty           budget_empty: our own budget has no token; nothing was sent
    │   └── Throttled             throttled: status 429; the bucket was emptied
    ├── PageExpired               page_expired: the page token is no longer accepted; walk again, in halves
    ├── DocumentExpired           document_expired: a report's address is no longer accepted; get another
    ├── ReportUnreadable          report_unreadable: a report is not the promised table; do without it
    ├── BoundRefused              bound_refused: the upper bound was too young for Amazon's clock
    ├── SecretExpired             secret_expired: Amazon refuses what the client secret granted
    ├── RequestRefused            request_refused: status 4xx; this request never succeeds unchanged
    │   ├── AccessRefused         access_refused: status 401 or 403, with a fresh access token too
    │   └── OrderNotFound         order_not_found: status 404 of a fetch by ID
    └── CredentialsRefused        Login with Amazon refused; stop
        ├── AuthorisationRevoked  authorisation_revoked: ``invalid_grant``; until the seller reauthorises
        └── ApplicationRefused    application_refused: ``invalid_client``; every account of the application

The word after each leaf is its ``kind``: it is stored, so it never changes, whatever becomes of the class
name. ``status`` and ``code`` are the HTTP status and Amazon's error code of the answer that caused the
error, each None if there is none.

Messages are written for logs and status pages: they carry the operation, the status, Amazon's
error code and its request ID, and never a credential, a token, a URL or buyer data.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar


class ConnectorError(Exception):
    """Root of everything a connector raises on purpose."""

    kind: ClassVar[str] = "connector_error"

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Retriable(ConnectorError):
    """The same request may succeed a little later."""


class Unreachable(Retriable):
    """Amazon gave no answer: connection refused or dropped, or no answer in time."""

    kind = "unreachable"


class ServerFault(Retriable):
    """Amazon answered with a status of 500 or above."""

    kind = "server_fault"


class Garbled(Retriable):
    """Amazon answered 2xx with a body that is not the expected JSON object, or with a redirect."""

    kind = "garbled"


class Unforeseen(ConnectorError):
    """A library below raised anything else. Only its class is named: its text may hold what was read."""

    kind = "unexpected"

    @classmethod
    def of(cls, operation: str, error: Exception) -> Unforeseen:
        return cls(f"{operation}: unexpected {type(error).__name__}")


class Deferred(ConnectorError):
    """There is nothing to do before ``until`` (aware UTC)."""

    kind = "deferred"

    def __init__(
        self, message: str, until: datetime, status: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, status, code)
        self.until = until


class BudgetEmpty(Deferred):
    """Our own budget has no token to spend; no request was sent."""

    kind = "budget_empty"


class Throttled(Deferred):
    """Amazon answered 429, which carries no number: the bucket counts as empty."""

    kind = "throttled"


class PageExpired(ConnectorError):
    """The page token was refused; the window must be walked again, in halves."""

    kind = "page_expired"


class DocumentExpired(ConnectorError):
    """The presigned address of a report's document was refused; the report gives another one."""

    kind = "document_expired"


class SecretExpired(ConnectorError):
    """The client secret has expired: Login with Amazon still grants access tokens, which Amazon refuses."""

    kind = "secret_expired"


class ReportUnreadable(ConnectorError):
    """A report's document is not the promised table; requesting it again gives the same one."""

    kind = "report_unreadable"


class BoundRefused(ConnectorError):
    """The upper bound was younger than the two minutes that Amazon demands."""

    kind = "bound_refused"


class RequestRefused(ConnectorError):
    """Status 4xx: repeating the request unchanged cannot help. ``status`` is always there."""

    kind = "request_refused"
    status: int

    def __init__(self, message: str, status: int, code: str | None = None) -> None:
        super().__init__(message, status, code)


class AccessRefused(RequestRefused):
    """Status 401 or 403, with a fresh access token too. Does not prove that the seller revoked anything."""

    kind = "access_refused"


class OrderNotFound(RequestRefused):
    """Status 404: no order of this account has the requested ID."""

    kind = "order_not_found"


class CredentialsRefused(ConnectorError):
    """The credentials are refused; trying again with the same ones is pointless."""

    refuses: ClassVar[str] = "account"
    """What is refused: the ``account``'s part of the credentials, or the ``application``'s."""


class AuthorisationRevoked(CredentialsRefused):
    """``invalid_grant``: the seller's authorisation is gone or has expired."""

    kind = "authorisation_revoked"


class ApplicationRefused(CredentialsRefused):
    """``invalid_client`` or ``unauthorized_client``: the application's own credentials are wrong."""

    kind = "application_refused"
    refuses = "application"
