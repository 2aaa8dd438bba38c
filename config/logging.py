"""Log lines: structlog's and the standard library's through one formatter, to standard error.

The last processor before the renderer removes what looks like a secret or like buyer data. No code of
ours logs such things; this is a second line of defence, also against libraries.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

REDACTED = "[redacted]"

QUIET = (
    *("httpx", "httpcore", "urllib3", "requests", "apprise", "sp_api", "apscheduler", "alembic"),
    *("procrastinate", "asyncio"),
)
"""Libraries whose messages help no one or contain URLs, headers or payloads: only warnings pass."""

_SECRET_KEY = re.compile(
    r"token|secret|password|passwd|authorization|cookie|credential|api_key|encryption_key|database_url"
    r"|payload|headers"
)
_BUYER_KEY = re.compile(
    r"(.+_)?e?_?mails?(_\d)?|name|(buyer|recipient|customer|amazon|company|legal)_name|company"
    r"|buyer|recipient|(.+_)?phone(_number)?|(.+_)?address|delivery|billing|line_?[123]|city|county|postal_code"
    r"|postcode|gift_message|purchase_order_number|(.+_)?instructions"
)
_SECRET_TEXT = re.compile(
    r"Atz[a-z]\|[\w.~+/=|-]+"  # Amazon's access and refresh tokens
    r"|amzn1\.oa2-cs\.[\w.-]+"  # an application's secret
    r"|[\w.+%-]+@[\w-]+(?:\.[\w-]+)+"  # an e-mail address
    r"|(?<=://)[^\s/:@]+:[^\s/@]+(?=@)"  # the user and password of a URL
)


class _StandardError(logging.StreamHandler):  # type: ignore[type-arg]
    """A handler that writes to the current ``sys.stderr``; the class marks it as ours."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def _is_wanted(record: logging.LogRecord) -> bool:
    """Filter at the handler: a parent's level does not apply to loggers that set their own."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] not in QUIET


def redact(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Redact the values of suspicious keys, at any depth, and suspicious parts of all texts."""
    return {key: _clean(key, value) for key, value in event_dict.items()}


def _clean(key: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if _BUYER_KEY.fullmatch(key.lower()):
        return REDACTED
    if isinstance(value, int | float):  # the number of tokens is no token
        return value
    if _SECRET_KEY.search(key.lower()):
        return REDACTED
    if isinstance(value, Mapping):
        return {str(inner): _clean(str(inner), item) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean("", item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return _SECRET_TEXT.sub(REDACTED, repr(value) if isinstance(value, BaseException) else str(value))


def _without_messages(exc_info: ExcInfo) -> str:
    """Return where an exception and its causes were raised, and their classes.

    Their texts are left out: that of an unforeseen one may hold the value that was being stored.
    """
    blocks: list[str] = []
    error: BaseException | None = exc_info[1]
    while error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        blocks.append(f"{frames}{type(error).__module__}.{type(error).__qualname__}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(reversed(blocks))


def _drop_message(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Drop the finished message that another handler's formatter leaves on the record."""
    event_dict.pop("message", None)
    return event_dict


def configure_logging(format: Literal["console", "json"] | None, level: str) -> None:
    """Send everything at ``level`` (``debug`` to ``error``) and above to standard error.

    ``format`` None: console on a terminal, else JSON, one object a line. Times are UTC. Exceptions are
    logged without local variables and without their texts. May be called again.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.ExceptionRenderer(_without_messages),
    ]
    renderer: Processor
    if format == "console" or (format is None and sys.stderr.isatty()):
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    else:
        renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    handler = _StandardError()
    handler.addFilter(_is_wanted)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _drop_message],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, renderer],
        )
    )
    for name in QUIET:  # so that they do not even build messages that are dropped
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    root = logging.getLogger()
    for previous in [h for h in root.handlers if isinstance(h, _StandardError)]:
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
