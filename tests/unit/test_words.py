"""The check of retired words: where prose is found, and with which line."""

from __future__ import annotations

from tests.words import found, prose_of_code

CODE = '''"""Whoever reads."""

told = nobody(f"{anew} so
many", 1)  # a
# stretch
def moment() -> None:
    """Sees to it."""
    return "looked " "at it", "trouble"
'''.replace("so\nmany", "so many")


def test_comments_docstrings_and_texts_are_prose_and_names_are_not() -> None:
    prose = prose_of_code(CODE, docstrings_only=False)
    expected = [(1, "whoever"), (3, "a stretch"), (3, "so many"), (6, "sees to"), (7, "looked at")]
    assert sorted(found(prose)) == expected


def test_of_tests_the_docstrings_alone_are_prose() -> None:
    assert sorted(found(prose_of_code(CODE, docstrings_only=True))) == [(1, "whoever"), (6, "sees to")]
