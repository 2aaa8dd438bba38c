"""Text that people read."""

from __future__ import annotations

import pytest

from poller.text import indented


def test_json_is_indented_with_every_number_as_it_was_written() -> None:
    text = '{"total": {"amount": 12.340, "names": ["Zoë", []]}, "empty": {}}'
    lines = ["{", '  "total": {', '    "amount": 12.340,', '    "names": [', '      "Zo\\u00eb",', "      []"]
    assert indented(text).splitlines() == [*lines, "    ]", "  },", '  "empty": {}', "}"]
    assert '"Zoë"' in indented(text, ascii_only=False)


@pytest.mark.parametrize("depth", [500, 3000, 20_000, 100_000])
def test_json_that_is_nested_too_deeply_stays_as_it_is(depth: int) -> None:
    deep = '{"a":[' * depth + "]}" * depth
    assert indented(deep) in (deep, indented(deep, ascii_only=False))
    assert depth < 20_000 or indented(deep) == deep


def test_what_is_no_json_stays_as_it_is() -> None:
    assert indented("<html>") == "<html>"
