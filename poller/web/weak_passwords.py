"""Recognise the commonest passwords by how they are made: words, digits, keyboard walks, repeats. Pure.

Lists of leaked passwords are long and hold little else than this. So a password is split into as few pieces
as possible: a common word, a walk over the keyboard, a row of digits or letters, a repeated character, a
year; every other character is a piece of its own. One of few pieces is among those that are tried first.
"""

from __future__ import annotations

import re
from functools import cache

FEWEST_PIECES = 6
"""A password of fewer pieces is refused."""

_TEXT = """
a abc account admin administrator alexander amazon america amor and andrew angel anthony apple april are
arsenal asdf ashley august austin autumn baby backup banana baseball basketball batman beautiful best
bitte black blink blue boss bubbles buster butterfly buyer change changeme charlie cheese chelsea
chicken chocolate christ christmas coffee company computer console cookie corvette cowboy customer
dallas daniel data database david december default demo diamond dog dolphin dragon eight ein eine
einhorn elephant email eminem england enter ewr facebook family february ferrari five flower football
for forever forget four freedom friday friend friends garfield gateway george germany ginger god golf
google green guest hallo hammer hannah hansi harley harry heaven hello help hockey home hundred hunter i
ice iceman idontknow ilove iloveyou internet is jackson january jasmine jennifer jessica jesus john
jordan joseph joshua july june junior justin killer king kitty lady letme letmein liebe lightning
linkedin liverpool login lol london love lovely loveme lover maggie manchester march marina market
martin master matrix matthew maverick may me mein melissa mercedes merlin michael michelle mickey
microsoft miller mobile monday money monkey monster mother mustang my name nascar new nicole nine ninja
no not november october office one oracle orange order order-sync orders out p pa packers pass passe
passord passwd password passwort patrick peanut pepper phoenix please pokemon porsche prince princess
private purple qwe qwert qwerty rabbit rachel ranger red robert root russia samantha samsung saturday
scooter secret secure security seller september server service seven shadow shop silver six snoopy
soccer sommer sophie spider spiderman spring starwars steelers store summer sunday sunshine super
superman support sync system taylor temp ten test tester testing the thomas thousand three thunder
thursday thx tiger tigger to today trustno trustnoone tucker tuesday two united unknown user username
vier viking wednesday welcome whatever william willkommen winner winter wizard word work world xxx
yankees yellow yes you your zwei zxc zxcv
"""
WORDS = frozenset(_TEXT.split())
"""Words that common passwords are made of."""

_LINES = (
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "1234567890",
    "0123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "!@#$%^&*()",
    "1q2w3e4r5t6y7u8i9o0p",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik",
    "qazwsxedcrfvtgbyhnujmik",
    "a1b2c3d4e5f6g7h8i9",
    "q1w2e3r4t5y6u7i8o9p0",
    "147258369",
    "741852963",
    "159357",
    "13579",
    "24680",
)
"""Ways over keyboards, rows of digits and letters."""

_WALKS = tuple(way for line in _LINES for way in (line * 2, line[::-1] * 2))
_LOOKALIKES = str.maketrans({"@": "a", "4": "a", "0": "o", "1": "i", "3": "e", "$": "s", "5": "s", "7": "t"})
_YEAR = re.compile(r"(19|20)\d\d")
_LONGEST_PIECE = 30


def is_common(password: str) -> bool:
    """Return True if a password is made of so few pieces that it is among the first that are tried."""
    return pieces(password) < FEWEST_PIECES


def pieces(password: str) -> int:
    """Return the least number of pieces of a password. A text several times over is that text and a piece."""
    text = password.lower()
    unit = text[: (text + text).index(text, 1)] if text else ""
    return _pieces(unit) + (1 if len(unit) < len(text) else 0)


def _pieces(text: str) -> int:
    fewest = [0]  # of the first characters
    for end in range(1, len(text) + 1):
        best = fewest[end - 1] + 1
        for start in range(max(0, end - _LONGEST_PIECE), end - 1):
            if fewest[start] + 1 < best and _is_piece(text[start:end]):
                best = fewest[start] + 1
        fewest.append(best)
    return fewest[-1]


@cache
def _stems() -> frozenset[str]:
    return WORDS | {f"{word}s" for word in WORDS}


def _is_piece(part: str) -> bool:
    return (
        len(set(part)) == 1
        or any(part in walk for walk in _WALKS)
        or _YEAR.fullmatch(part) is not None
        or part in _stems()
        or part.translate(_LOOKALIKES) in _stems()
        or part.translate(_LOOKALIKES | {ord("1"): "l", ord("!"): "i"}) in _stems()
    )
