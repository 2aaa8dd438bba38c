"""The one way in which a person is told that the rules do not allow it."""

from __future__ import annotations


class Refused(Exception):
    """What was asked for cannot be done; nothing was changed.

    The sentence says what, where and the remedy, and holds nothing of a buyer's. ``named`` are the addresses
    that it is about, to be shown to the person who asked and to nobody else.
    """

    def __init__(self, sentence: str, *named: str) -> None:
        super().__init__(sentence)
        self.named = named


class Unknown(Refused):
    """There is no such thing."""


class Unusable(Exception):
    """The service cannot work with what it was given. Each sentence names what, where and the remedy."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences
