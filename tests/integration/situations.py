"""Situations of a service that are not well, each made in a database that was well before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from connectors.base import Attempt
from poller.bootstrap import Service
from poller.monitoring.gather import credentials_used
from store import alerts, processes, quarantine, runs, tables, verifications, webhooks
from store.change_records import Held, Position
from store.engine import Store
from store.verification_records import Finding, Verification
from tests.harness import NOON
from tests.integration.service_world import opened_service
from tests.integration.store_world import apply, clock_of, count_buyers
from tests.unit.matching_world import an_order

UK = "A1F83G8C2ARO7P"

Make = Callable[[Service], object]


def well(_: Service) -> None:
    """Leave the healthy shop as it is."""


def attempts(service: Service, ok: int, failed: int) -> None:
    for outcome, number in (("ok", ok), ("ServerFault", failed)):
        for _ in range(number):
            service.tally(Attempt("acme", "searchOrders", outcome, False, 0.1))


def a_healthy_shop(service: Service) -> None:
    """One order, one page a minute ago, a verified month, all requests answered."""
    apply(service.store, an_order("o1", "ann@example.com"))
    with service.store.begin() as tx:
        now, source = tx.now, {"source": "acme:EU", "account": "acme"}
        succeeded = {"failures": 0, "succeeded_at": now, "turns": "{}"}
        tx.conn.execute(sa.insert(tables.sources).values(**source, **succeeded))
        progress = dict.fromkeys(("position", "second_position", "settled_position"), now)
        tx.conn.execute(
            sa.insert(tables.marketplaces).values(
                account="acme",
                marketplace_id=UK,
                source="acme:EU",
                live_from=now - timedelta(days=2),
                **progress,
            )
        )
        read = {"lower": now - timedelta(days=2), "upper": now}
        tx.conn.execute(
            sa.insert(tables.coverage).values(account="acme", marketplace_id=UK, look="first", **read)
        )
    attempts(service, ok=2, failed=0)


def change(service: Service, table: sa.Table, **values: Any) -> None:
    with service.store.begin() as tx:
        tx.conn.execute(sa.update(table).values(**values))


def ago(service: Service, **duration: float) -> Any:
    return clock_of(service.store)() - timedelta(**duration)


def a_gap(service: Service, hours: float, state: str = "open") -> None:
    """A range of an hour has been missing for so long."""
    lower = ago(service, hours=hours)
    upper = lower + timedelta(hours=1)
    place = {"account": "acme", "marketplace_id": UK, "look": "first"}
    change(service, tables.coverage, upper=lower)
    with service.store.begin() as tx:
        tx.conn.execute(sa.insert(tables.coverage).values(**place, lower=upper, upper=tx.now))
        window = {"source": "acme:EU", "account": "acme", "kind": "live", "axis": "updated", "state": state}
        numbers = dict.fromkeys(("pages", "orders", "attempts", "version"), 0)
        tx.conn.execute(
            sa.insert(tables.windows).values(
                **window, **numbers, marketplace_ids=UK, included_data="BUYER", lower=lower, upper=upper,
                created_at=tx.now, retry_at=tx.now,
            )
        )  # fmt: skip


def a_verification(service: Service, **changed: Any) -> None:
    with service.store.begin() as tx:
        made = Verification(
            *("acme", UK, tx.now - timedelta(days=30), tx.now, tx.now, "report", "scheduled"),
            repair=True,
            position=tx.now,
        )
        verifications.save(tx, replace(verifications.begin(tx, made), **changed))


def quarantined(service: Service, number: int) -> None:
    with service.store.begin() as tx:
        for each in range(number):
            quarantine.put(tx, quarantine.Quarantined("acme", f"bad {each}", None, "nonsense", "{}"))


def a_webhook(service: Service, *, gave_up: bool) -> None:
    with service.store.begin() as tx:
        hook = webhooks.add(tx, "https://example.com/", "whsec_AA==")
    apply(service.store, an_order("o2", "eve@example.com"))
    with service.store.begin() as tx:
        (hook,) = webhooks.load(tx, hook.hook_id)
        if gave_up:
            webhooks.hold(tx, hook.hook_id, [Held(Position(1), "dead", 9, tx.now, tx.now)])
        else:
            long_ago = tx.now - timedelta(hours=2)
            webhooks.save(tx, replace(hook, failures=3, failing_since=long_ago, last_error="status 500"))
            tx.conn.execute(sa.update(tables.outbox).values(at=long_ago))


def refused(service: Service, kind: str = "account", **since: float) -> None:
    _, source = service.sources["acme:EU"]
    with service.store.begin() as tx:
        runs.refuse(tx, kind, "acme", source.credential, "invalid_grant")
    change(service, tables.refusals, since=ago(service, **since))


def buyers_not_shown(service: Service) -> None:
    with service.store.begin() as tx:
        for days, with_email in ((2, 10), (1, 10), (0, 1)):
            count_buyers(tx, "acme:EU", (tx.now - timedelta(days=days)).date(), 10, with_email, 9)


def overdue(service: Service) -> None:
    change(service, tables.orders, term_at=ago(service, days=33))


def of_a_marketplace_without_file(service: Service) -> None:
    apply(service.store, an_order("o3", "eve@example.com", marketplace_id="APJ6JRA9NG5V4"))


def away(service: Service) -> None:
    @contextmanager
    def read(_: Store) -> Iterator[None]:
        raise sa.exc.OperationalError("SELECT 1", {}, Exception("Connection refused"))
        yield

    service.store.__class__ = type("Away", (Store,), {"read": read})


def failing(service: Service, **since: float) -> None:
    began = ago(service, **since)
    change(service, tables.sources, succeeded_at=began, failing_since=began, failures=9)


def behind(service: Service, hours: float) -> None:
    read_until = ago(service, hours=hours)
    change(service, tables.coverage, upper=read_until)
    change(service, tables.marketplaces, position=read_until)


def a_run_in_the_future(service: Service) -> None:
    with service.store.begin() as tx:
        values = {"source": "acme:EU", "outcome": "complete", "requests": 1, "pages": 0, "orders": 0}
        at = tx.now + timedelta(hours=5)
        tx.conn.execute(sa.insert(tables.runs).values(**values, started_at=at, finished_at=at))


def a_process(service: Service, *, seen: float = 0, keys: str = "", ahead: float = 0.0) -> None:
    """A service on another host, seen some minutes ago, with another key and clock than ours."""
    with service.store.begin() as tx:
        processes.save(tx, service.owner, "service", "1.0", 0.0)
        own = dict(tx.conn.execute(sa.select(tables.processes)).mappings().one())
        changed = {
            "owner": "host:7:abc",
            "key_ids": keys or own["key_ids"],
            "clock_ahead": ahead,
            "seen_at": tx.now - timedelta(minutes=seen),
        }
        tx.conn.execute(sa.insert(tables.processes).values({**own, **changed}))
        if seen:
            processes.remove(tx, service.owner)


def an_old_secret(service: Service) -> None:
    with service.store.begin() as tx:
        alerts.note_use(tx, credentials_used(service.store.lookup, service.setup))
        values = {"since": tx.now - timedelta(days=160)}
        tx.conn.execute(
            sa.update(tables.credentials).where(tables.credentials.c.kind == "secret").values(values)
        )


def a_broken_file(service: Service) -> None:
    (service.config.settings.config_dir / "marketplaces/de.toml").write_text("not TOML")
    service.reload()


def nothing_to_poll(service: Service) -> None:
    file = service.config.settings.config_dir / "marketplaces/uk.toml"
    file.write_text(f"{file.read_text()}enabled = false\n")
    service.reload()


SITUATIONS: dict[str, Make] = {
    "all is well": well,
    "the database does not answer": away,
    "no source can be polled": nothing_to_poll,
    "a configuration file that cannot be used": a_broken_file,
    "a source that has failed for 20 minutes": lambda s: failing(s, minutes=20),
    "a source that has failed for two hours": lambda s: failing(s, hours=2),
    "a source that Login with Amazon has just refused": refused,
    "a source that Login with Amazon has refused for an hour": lambda s: refused(s, hours=1),
    "a source with the credentials of another seller": lambda s: refused(s, "seller"),
    "a source that is an hour behind": lambda s: behind(s, 1),
    "a source that is seven hours behind": lambda s: behind(s, 7),
    "a range that has been set aside for two hours": lambda s: a_gap(s, 2, "set_aside"),
    "a range that has been missing for nine hours": lambda s: a_gap(s, 9),
    "a marketplace that fails alone": lambda s: change(
        s, tables.marketplaces, alone_since=NOON, trouble="HTTP 500"
    ),
    "a marketplace that the seller is not enrolled in": lambda s: change(
        s, tables.marketplaces, enrolled=False
    ),
    "a run that is dated in the future": a_run_in_the_future,
    "a service that has not been seen for four minutes": lambda s: a_process(s, seen=4),
    "a process without a key that another seals with": lambda s: a_process(s, keys="00000000"),
    "a host whose clock is three minutes ahead": lambda s: a_process(s, ahead=180),
    "an order in quarantine": lambda s: quarantined(s, 1),
    "six orders that came into quarantine within a day": lambda s: quarantined(s, 6),
    "an order that is held": lambda s: change(s, tables.orders, match_basis="held", customer_id=None),
    "an order of a marketplace without a file": of_a_marketplace_without_file,
    "a verification that failed": lambda s: a_verification(s, state="failed", position=ago(s, days=30)),
    "a verification that found an order missing": lambda s: a_verification(
        s, state="done", findings=(Finding("o9", "missing", None, None, "not_found"),), listed=7
    ),
    "buyers that are not shown any more": buyers_not_shown,
    "buyer data that is three days past its term": overdue,
    "a client secret that is 160 days old": an_old_secret,
    "a webhook that has accepted nothing for two hours": lambda s: a_webhook(s, gave_up=False),
    "a webhook's event that was given up": lambda s: a_webhook(s, gave_up=True),
}
"""By what ``docs/operation.md`` calls them."""


@contextmanager
def situation(folder: Path, name: str, database_url: str | None = None) -> Iterator[Service]:
    """Open a service that is well but for this."""
    url = database_url or f"sqlite:///{folder / 'order-sync.db'}"
    with opened_service(url, folder) as service:
        a_healthy_shop(service)
        SITUATIONS[name](service)
        yield service
