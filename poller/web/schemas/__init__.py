"""Request and response schemas of the HTTP API, by resource; ``poller.export`` has the exported objects."""

from __future__ import annotations

from pydantic import BaseModel

from poller.web.schemas import backfills, base, customers, orders, quarantine, service, verifications


def by_name() -> dict[str, type[BaseModel]]:
    """Return every schema by its name in the OpenAPI description."""
    modules = (base, orders, customers, backfills, quarantine, verifications, service)
    return {
        name: schema
        for module in modules
        for name, schema in vars(module).items()
        if isinstance(schema, type) and issubclass(schema, BaseModel)
    }
