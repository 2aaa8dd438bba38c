"""``order-sync accounts``: an account under another name, or with another seller's credentials."""

from __future__ import annotations

from typing import Annotated

import typer

from poller.actions import accounts
from poller.cli.output import say
from poller.cli.session import actor, opened
from poller.text import counted

app = typer.Typer()


@app.callback()
def group() -> None:
    """Carry an account's orders over to another name; confirm a new seller."""


@app.command()
def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The account's name so far.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its name in the configuration now.")],
) -> None:
    """Carry orders, customers and progress of an account over to another name of the same seller.

    First rename the account in its files or variables, with the business that its customers belong to, and
    restart the service: it requests nothing for the new name until this is done. Readers of exports and
    changes see all its orders again, under the new name.
    """
    with opened(wired=True) as service:
        done = accounts.rename(service.store, service.setup, old, new, actor())
    say(f"{counted(done.orders, 'order')} and {counted(done.customers, 'customer')} of {old} are {new}'s now")


@app.command()
def confirm(account: Annotated[str, typer.Argument(metavar="NAME", help="The account.")]) -> None:
    """Let an account go on with the credentials that it has now, although they are another seller's."""
    with opened(wired=True) as service:
        accounts.confirm(service.store, service.setup, account, actor())
    say(f"account {account} goes on with its present credentials")
