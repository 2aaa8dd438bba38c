"""A configured service on an empty database and a simulated clock."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poller.bootstrap import Service
from store.engine import Store
from store.tables import metadata
from tests.integration.store_world import KEY, open_store

MARKETPLACE = """
marketplace = "{code}"
account = "acme"
start_date = 2026-06-01
price_list = "Amazon {code} retail"
"""


@contextmanager
def opened_service(database_url: str, folder: Path, *codes: str, **environ: str) -> Iterator[Service]:
    """Open and wire a service of account ``acme``; it makes no request."""
    (folder / "marketplaces").mkdir()
    for code in codes or ("UK",):
        (folder / f"marketplaces/{code.lower()}.toml").write_text(MARKETPLACE.format(code=code))
    front = "ORDER_SYNC_ACCOUNTS__ACME__"
    variables = {
        "ORDER_SYNC_CONFIG_DIR": str(folder),
        "ORDER_SYNC_DATABASE_URL": database_url,
        "ORDER_SYNC_ENCRYPTION_KEY": base64.b64encode(KEY).decode(),
        f"{front}LWA_CLIENT_ID": "client",
        f"{front}LWA_CLIENT_SECRET": "secret",
        f"{front}REFRESH_TOKEN": "Atzr|token",
        **environ,
    }
    with Service(variables) as service:
        with_clock(service, open_store(database_url))
        service.wire()
        assert service.problems == ()
        yield service


def with_clock(service: Service, store: Store) -> None:
    """Give a service a store on a simulated clock."""
    metadata.create_all(store.engine)
    service._store = store
