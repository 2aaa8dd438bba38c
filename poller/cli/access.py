"""``order-sync access``: review who has access."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from poller.cli.options import AsJson
from poller.cli.output import put, put_json, put_table, say
from poller.cli.session import enter, opened, operator
from poller.text import counted, time_text, when
from poller.web.access_review import Review, review
from poller.web.users import is_over
from store import access_reviews, sessions, tokens, users
from store.access_reviews import AccessReview
from store.engine import Transaction

app = typer.Typer()


@app.callback()
def group() -> None:
    """Review who has access to the console and the HTTP API."""


@app.command("review")
def review_access(
    no_record: Annotated[
        bool, typer.Option("--no-record", help="Only look: do not record that a review took place.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List users and tokens, with what is overdue, and record that a person has reviewed them."""
    with opened() as service:
        setting = service.config.settings.api_token
        with service.store.read() as tx:
            before, now = access_reviews.last(tx), tx.now
            live = [s.name for s in sessions.load(tx) if not is_over(s, tx.now)]
            reviewed = review(
                [(user, live.count(user.name)) for user in users.load(tx)],
                tokens.load(tx),
                has_setting=setting is not None,
                now=now,
            )
        if not no_record:
            entry = AccessReview(
                now, operator()[:80], len(reviewed.users), len(reviewed.tokens), reviewed.overdue
            )

            def add(tx: Transaction) -> None:
                enter(tx, "access_reviewed", detail=counted(reviewed.overdue, "finding"))
                access_reviews.add(tx, entry)

            service.store.commit(add)
    if as_json:
        put_json(_object(reviewed, before) | {"at": time_text(now)})
        return
    _show(reviewed)
    last = "the first one" if before is None else f"the last one was on {when(before.at)} UTC by {before.who}"
    recorded = "not recorded" if no_record else "recorded"
    say(f"{counted(reviewed.overdue, 'finding')}; this review is {recorded}, {last}")


def _show(reviewed: Review) -> None:
    if reviewed.users:
        put_table(
            ("user", "may", "password of", "one-time codes", "last sign-in (UTC)", ">sessions", "overdue"),
            [
                (
                    one.user.name,
                    ", ".join(one.user.scopes),
                    "none" if one.user.password is None else f"{one.user.password_at:%Y-%m-%d}",
                    "yes" if one.user.has_totp else "no",
                    when(one.user.signed_in_at, otherwise="never"),
                    one.sessions,
                    "; ".join(one.overdue),
                )
                for one in reviewed.users
            ],
        )
        put()
    if reviewed.tokens:
        put_table(
            ("token", "may", "since (UTC)", "expires (UTC)", "last use (UTC)", "overdue"),
            [
                (
                    one.name,
                    ", ".join(one.scopes),
                    when(one.stored.created_at) if one.stored else "",
                    when(one.stored.expires_at if one.stored else None, otherwise="never"),
                    when(one.stored.used_at, otherwise="never") if one.stored else "not noted",
                    "; ".join(one.overdue),
                )
                for one in reviewed.tokens
            ],
        )


def _object(reviewed: Review, before: AccessReview | None) -> dict[str, Any]:
    return {
        "overdue": reviewed.overdue,
        "previous": None if before is None else {"at": time_text(before.at), "who": before.who},
        "users": [
            {
                "name": one.user.name,
                "scopes": list(one.user.scopes),
                "created_at": time_text(one.user.created_at),
                "password_at": None if one.user.password is None else time_text(one.user.password_at),
                "totp": one.user.has_totp,
                "signed_in_at": time_text(one.user.signed_in_at),
                "signed_in_from": one.user.signed_in_from,
                "sessions": one.sessions,
                "overdue": list(one.overdue),
            }
            for one in reviewed.users
        ],
        "tokens": [
            {
                "name": one.name,
                "scopes": list(one.scopes),
                "created_at": time_text(one.stored.created_at) if one.stored else None,
                "expires_at": time_text(one.stored.expires_at) if one.stored else None,
                "used_at": time_text(one.stored.used_at) if one.stored else None,
                "used_from": one.stored.used_from if one.stored else None,
                "overdue": list(one.overdue),
            }
            for one in reviewed.tokens
        ],
    }
