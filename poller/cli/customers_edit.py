"""``order-sync customers create``, ``edit``, ``merge`` and ``unmerge``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

import typer

from poller.cli.options import CustomerId, DryRun, Yes
from poller.cli.output import put, put_table, say
from poller.cli.session import confirm, disclosed, opened, operator
from poller.customers import edits, merges
from poller.customers.comparison import compared, label, sentences
from poller.customers.fields import FIELDS, checked
from poller.customers.merges import Merged
from poller.text import counted, plain
from store import customers
from store.audit_records import about

F = TypeVar("F", bound=Callable[..., None])

HELP = {
    "external_id": "Your own id for the customer.",
    "email_1": "Main e-mail, first slot; all three slots match orders.",
    "discount_percent": "From 0 to 100.",
    "currency": "Three letters (ISO 4217), for example GBP.",
    "billing_country": "Two letters, for example GB.",
    "delivery_country": "Two letters, for example GB.",
}

Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Repeatable; KEY= removes a label.")
]


def with_fields(function: F) -> F:
    """Give a command one option for each field of a customer, in place of its ``**values``."""
    own = inspect.signature(function, eval_str=True)
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    for name in FIELDS:
        option = typer.Option(f"--{name.replace('_', '-')}", metavar="TEXT", help=HELP.get(name))
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
            )
        )
    function.__dict__["__signature__"] = own.replace(parameters=parameters)
    return function


@with_fields
def create(
    business: Annotated[
        str | None, typer.Option(metavar="NAME", help="The customer's business; needed if there are several.")
    ] = None,
    label: Labels = None,
    **values: Any,
) -> None:
    """Create a customer by hand and print its id."""
    with opened(create=True) as service:
        changes = checked(_set_only(values), label or (), service.shared_emails)
        owner = edits.settle_business(service.businesses(), business)
        created = service.store.commit(lambda tx: edits.create(tx, owner, changes, operator()))
    put(str(created.customer_id))
    say(f"customer {created.customer_id} was created in business {owner}")


@with_fields
def edit(customer_id: CustomerId, label: Labels = None, **values: Any) -> None:
    """Edit fields of a customer; an empty value removes one. No sync overwrites what is set here."""
    with opened() as service:
        changes = checked(_set_only(values), label or (), service.shared_emails)
        lost = service.store.commit(lambda tx: edits.edit_and_count(tx, customer_id, changes, operator()))
    named = [name.replace("_", " ") for name in changes.values]
    named += [f"label {key}" for key in changes.labels]
    say(f"customer {customer_id}: changed {', '.join(named)}")
    if lost:
        say(f"{counted(lost, 'erased e-mail')} dropped: a returning buyer with it becomes a new customer")


def _set_only(values: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


# --- merge and unmerge ------------------------------------------------------------------------------


def merge(
    keep: Annotated[int, typer.Argument(metavar="KEEP", help="The customer to keep.")],
    other: Annotated[int, typer.Argument(metavar="OTHER", help="The customer to merge into it.")],
    keep_email: Annotated[
        list[str] | None,
        typer.Option("--keep-email", metavar="E", help="A main e-mail to keep; repeatable, at most three."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Merge one customer into another: its orders, e-mails, and fields that the kept one lacks."""
    with opened() as service:
        # Also a refusal names e-mails of the two.
        disclosed(service, about("customers", customers=(keep, other)))
        with service.store.read() as tx:
            planned = merges.preview(tx, keep, other, service.shared_emails, keep_email)
            orders = customers.order_counts(tx, (keep, other))
        _put_preview(planned, orders)
        if dry_run:
            return
        confirm(f"merge customer {other} into customer {keep}?", yes=yes)
        done = service.store.commit(
            lambda tx: merges.merge(tx, keep, other, operator(), service.shared_emails, keep_email)
        )
    moved = counted(done.moved, "order")
    say(f"customer {other} is merged into customer {keep}, {moved} moved")
    say(f"`order-sync customers unmerge {other}` undoes it")


def _put_preview(planned: Merged, orders: Mapping[int, int]) -> None:
    """Print what a merge would do, including what would stop matching (R51)."""
    kept, other = planned.before, planned.other
    rows = compared(kept, other, planned.kept, orders)
    put_table(
        ("", f"keep {label(kept)}", f"merge {label(other)}", "afterwards", "effect"),
        [
            (row.title, ", ".join(row.kept), ", ".join(row.other), ", ".join(row.after or ()), row.effect)
            for row in rows
            if row.effect != "equal"
        ],
    )
    put()
    for _, sentence in sentences(kept.customer_id, other.customer_id, rows):
        put(sentence)


def unmerge(
    other: Annotated[int, typer.Argument(metavar="OTHER", help="The customer that was merged into another.")],
    leave: Annotated[
        list[str] | None,
        typer.Option(
            "--leave", metavar="E", help="An e-mail that may stay with a third customer who has it now."
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """Undo the merge of a customer, except for what was changed since."""
    with opened() as service:
        confirm(f"undo the merge of customer {other}?", yes=yes)
        disclosed(service, about("customers", customers=(other,)))
        done = service.store.commit(
            lambda tx: merges.unmerge(tx, other, operator(), service.shared_emails, leave or ())
        )
    kept = done.kept.customer_id
    say(f"customer {other} is separate from customer {kept} again, {counted(done.moved, 'order')} moved")
    if done.arrived or done.stayed:
        since = counted(done.arrived + done.stayed, "order")
        say(f"of {since} placed after the merge, {done.arrived} moved by e-mail, {done.stayed} stayed")
    for email in done.entered:
        say(f"{plain(email)} stays with customer {kept}: it was entered there after the merge")
    for lost in done.lost:
        email = "an erased e-mail of the merge" if lost is None else plain(lost)
        edit = f"`order-sync customers edit {other}` can give it to this one"
        say(f"{email} is with no customer: it was taken off customer {kept} after the merge; {edit}")
