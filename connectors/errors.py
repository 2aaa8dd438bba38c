"""Everything that can go wrong with Amazon, sorted by what to do about it.

    ConnectorError
    ├── Retriable                 try the same request again, a little later
    │   ├── Unreachable           no answer: refused, dropped, timed out
    │   ├── ServerFault           status 5xx, whatever the body
    │   └── Garbled               a 2xx whose body is not what the operation promises
    ├── Deferred                  ask again no sooner than ``until``
    │   ├── BudgetEmpty           our own budget has no token; nothing was sent
    │   └── Throttled             Amazon answered 429; the bucket was emptied
    ├── PageExpired               the page token is no longer accepted: walk again, in halves
    ├── DocumentExpired           the address of a report's document is no longer accepted: ask for another
    ├── ReportUnreadable          a report is not the table that was promised: do without it
    ├── BoundRefused              the upper bound was too young for Amazon's clock
    ├── RequestRefused            status 4xx: this request will never succeed unchanged
    │   ├── AccessRefused         status 403 that a fresh access token did not cure
    │   └── OrderNotFound         status 404 of a fetch by id
    └── CredentialsRefused        Login with Amazon said no: stop
        ├── AuthorisationRevoked  ``invalid_grant``: this account, until its credential changes
        └── ApplicationRefused    ``invalid_client``: every account of this application

Messages are written for logs and status pages: they carry the operation, the status, Amazon's
error code and its request id, and never a credential, a token, a URL or buyer data.
"""

from __future__ import annotations

from datetime import datetime


class ConnectorError(Exception):
    """Root of everything a connector raises on purpose."""


class Retriable(ConnectorError):
    """The same request may succeed a little later."""


class Unreachable(Retriable):
    """Amazon gave no answer: connection refused or dropped, or no answer in time."""


class ServerFault(Retriable):
    """Amazon answered with a status of 500 or above."""


class Garbled(Retriable):
    """Amazon answered 2xx with a body that is not the expected JSON object."""


class Deferred(ConnectorError):
    """There is nothing to do before ``until`` (aware UTC)."""

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class BudgetEmpty(Deferred):
    """Our own budget has no token to spend; no request was sent."""


class Throttled(Deferred):
    """Amazon answered 429, which carries no number: the bucket counts as empty."""


class PageExpired(ConnectorError):
    """The page token was refused; the window has to be walked again, in halves."""


class DocumentExpired(ConnectorError):
    """The presigned address of a report's document was refused; the report gives another one."""


class ReportUnreadable(ConnectorError):
    """A report's document is not the table that was promised; asking for it again gives the same one."""


class BoundRefused(ConnectorError):
    """The upper bound was younger than the two minutes that Amazon demands."""


class RequestRefused(ConnectorError):
    """Status 4xx: repeating the request unchanged cannot help.

    ``status`` is the HTTP status, ``code`` Amazon's own word for it, or an empty string.
    """

    def __init__(self, message: str, status: int, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class AccessRefused(RequestRefused):
    """Status 403, also with a fresh access token. Not a proof that the seller revoked anything."""


class OrderNotFound(RequestRefused):
    """Status 404: no order of this account has the id that was asked for."""


class CredentialsRefused(ConnectorError):
    """Login with Amazon refused the credentials; asking again with the same ones is pointless."""


class AuthorisationRevoked(CredentialsRefused):
    """``invalid_grant``: the seller's authorisation is gone or has expired."""


class ApplicationRefused(CredentialsRefused):
    """``invalid_client`` or ``unauthorized_client``: the application's own credentials are wrong."""
