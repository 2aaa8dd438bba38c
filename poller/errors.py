"""The errors that a person reads: a request that is refused, a configuration that cannot work."""

from __future__ import annotations


class Refused(Exception):
    """A request that cannot be carried out; nothing was changed.

    The sentence says what, where and the remedy, and holds no buyer data. ``named`` are the addresses that it
    is about, which only the person who made the request may see.
    """

    def __init__(self, sentence: str, *named: str) -> None:
        super().__init__(sentence)
        self.named = named


class Unknown(Refused):
    """The named thing does not exist."""


class NoCustomer(Unknown):
    """There is no customer of this id."""

    def __init__(self, customer_id: int) -> None:
        super().__init__(
            f"there is no customer {customer_id}: `order-sync customers list` finds those there are."
        )


class Unusable(Exception):
    """The configuration cannot work. Each sentence names what, where and the remedy."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences
