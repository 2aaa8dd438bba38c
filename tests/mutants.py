"""Mutants of the sync core: each changes one rule in one line, and a unit test must fail.

``make mutants`` prints for each mutant the test that kills it, and exits 1 if one survives or no longer
applies. A copy of the tree is changed, never the tree itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TESTS = ("tests/unit/test_sync_results.py", "tests/unit/test_sync_decide.py")
DECIDE, RESULTS, WINDOWS = "poller/sync/decide.py", "poller/sync/results.py", "poller/sync/windows.py"


class Mutant(NamedTuple):
    """``old`` stands in ``file`` once and becomes ``new``; ``meaning``: what would go wrong."""

    meaning: str
    file: str
    old: str
    new: str


MUTANTS = (
    # Cover
    Mutant("an overfull page covers its interval", RESULTS, "if is_overfull and not", "if False and not"),
    Mutant("a full page without a token is believed", RESULTS, "page.next_token is not None or page.orders >= PAGE_SIZE\n    #", "page.next_token is not None\n    #"),
    Mutant("a page covers nothing", RESULTS, 'effects.append(Cover(ids, "first", seen))', "pass"),
    Mutant("a second look leaves no trace", RESULTS, 'effects.append(Cover(ids, "second", seen))', "pass"),
    Mutant("a live look counts as a second look", RESULTS, '(window.kind == "sweep" or is_late)', "True"),
    Mutant("a walk by created time covers nothing", RESULTS, 'effects.append(Cover(ids, "created", seen))', "pass"),
    Mutant("what left Amazon's list is covered", RESULTS, "max(lower, windows.oldest_listed(amazon_now))", "lower"),
    Mutant("coverage goes beyond Amazon's bound", RESULTS, "min(window.upper, page.echoed_before)", "window.upper"),
    Mutant("coverage has its bounds swapped", RESULTS, "Interval(lower, window.upper)", "Interval(window.upper, lower)"),
    Mutant("a part of a second covers all of it", RESULTS, "is_seen = not _has_unread_siblings(view, window)", "is_seen = True"),
    # SaveWindow and OpenWindow
    Mutant("one half of a split is lost", WINDOWS, "replace(fresh, upper=middle), replace(fresh, lower=middle)", "(replace(fresh, upper=middle),)"),
    Mutant("halves overlap wholly", WINDOWS, "replace(fresh, upper=middle), replace", "fresh, replace"),
    Mutant("a split outside the window is used", WINDOWS, "return at if window.lower < at < window.upper else None", "return at"),
    Mutant("a split ignores where the orders are", WINDOWS, "_quantile(window, times, share) or _middle", "_middle"),
    Mutant("an overfull window stays open beside its halves", RESULTS, "SaveWindow(windows.cancelled(window)),\n        *(OpenWindow(part)", "SaveWindow(window),\n        *(OpenWindow(part)"),
    Mutant("tokens are followed on updated time", WINDOWS, "return is_settled or is_instant(window)", "return True"),
    Mutant("tokens are followed at the two-year edge", WINDOWS, 'window.axis == "created" and window.lower >', 'window.axis == "created" or window.lower >'),
    Mutant("a finished window keeps its claim", RESULTS, "SaveWindow(replace(read, owner=None, claimed_until=None)),", "SaveWindow(read),"),
    Mutant("a page that was read keeps its back-off", RESULTS, "        retry_at=None,\n        last_error=None,\n        state=\"open\"", "        last_error=None,\n        state=\"open\""),
    Mutant("a second that fails late never ends", RESULTS, "attempts=0 if window.state == \"open\" and not windows.is_instant(window) else window.attempts", "attempts=0"),
    Mutant("a repeated token is followed for ever", RESULTS, "if page.next_token == window.page_token:", "if False:"),
    Mutant("a page with nothing new is followed for ever", RESULTS, "page.orders > 0 and page.new == 0", "False"),
    Mutant("empty pages are followed for ever", RESULTS, "window.pages - window.orders // PAGE_SIZE >= windows.EMPTY_PAGES", "False"),
    Mutant("the rest of a smaller bound is forgotten", RESULTS, "    if others:\n", "    if False:\n"),
    Mutant("the rest of a smaller bound is read in a loop", RESULTS, "OpenWindow(windows.failed(rest, why, view.now))", "OpenWindow(rest)"),
    Mutant("an expired walk keeps its failures", DECIDE, "(replace(w, attempts=0) for w in parts)", "parts"),
    Mutant("an old token is used", WINDOWS, "amazon_now - started >= WALK_LIMIT", "False"),
    Mutant("a second is never divided by its orders", DECIDE, "windows.halves_of_orders(window) if is_instant else", "() if is_instant else"),
    Mutant("parting forgets who leaves", WINDOWS, "for ids in (staying, going) if ids", "for ids in (staying,) if ids"),
    Mutant("a walked second is believed at once", RESULTS, "not (is_one_page or is_confirmed)", "False"),
    Mutant("a restless second is believed", RESULTS, "window.repeats is not None and page.departed == 0", "window.repeats is not None"),
    Mutant("a restless second is walked for ever", RESULTS, "again = windows.failed(again, RESTLESS, view.now)", "pass"),
    Mutant("a broken page stops everything until each half failed five times", RESULTS, "windows.ATTEMPTS - 1 if is_of_content else 0", "0"),
    Mutant("a broken page makes its source wait", RESULTS, "longest=SOON if is_divided else None", "longest=None"),
    Mutant("an outage is taken for content", RESULTS, " and view.source.failures < FAULTS_OF_A_SOURCE", ""),
    # SaveMarketplace
    Mutant("live looks do not advance", DECIDE, "SaveMarketplace(replace(m, position=max(m.position, upper)))", "SaveMarketplace(m)"),
    Mutant("live looks advance beyond what they read", DECIDE, "position=max(m.position, upper)", "position=view.signpost"),
    Mutant("a pull-back goes below where the look began", RESULTS, "upper >= window.lower + LONGEST_OVERLAP", "True"),
    Mutant("the rest of a shortened look is lost", RESULTS, "SaveMarketplace(replace(m, position=first.upper))", "SaveMarketplace(m)"),
    Mutant("any overfull look is shortened", RESULTS, "is_shortened = is_last and ROOM / 2 < expected < 2 * ROOM", "is_shortened = is_last"),
    Mutant("a look that is not the last is shortened", RESULTS, "is_shortened = is_last and", "is_shortened ="),
    Mutant("others are pulled back, too", RESULTS, "m.position == window.upper", "True"),
    Mutant("second looks do not advance", DECIDE, "SaveMarketplace(replace(m, second_position=max(m.second_position, upper)))", "SaveMarketplace(m)"),
    Mutant("second looks overtake live looks", DECIDE, "if upper > min(closed, *(m.position for m in group)):", "if upper > closed:"),
    Mutant("a second look comes too early", DECIDE, "if upper > min(closed, *(m.position for m in group)):", "if False:"),
    Mutant("a failing marketplace is never read alone", RESULTS, "SaveMarketplace(replace(m, alone_since=view.now, trouble=str(window.last_error or \"\")))", "SaveMarketplace(m)"),
    Mutant("a recovered marketplace is read alone for ever", RESULTS, "replace(m, alone_since=None, trouble=None) if m.alone_since is not None else m", "m"),
    # SaveSource
    Mutant("a failure is not counted against the source", RESULTS, "failures=failures,", "failures=0,"),
    Mutant("a source that fails does not wait", RESULTS, "retry_at=view.now + (pause if longest is None else min(pause, longest)),", "retry_at=None,"),
    Mutant("a known failure stops the whole source", RESULTS, "    if is_known_trouble(window, view.marketplaces):\n        return tuple(effects)\n", ""),
    Mutant("a stored page does not end a row of failures", RESULTS, "view.source, failures=0,", "view.source, failures=view.source.failures,"),
    Mutant("settled days are read again and again", DECIDE, "SaveMarketplace(replace(m, settled_position=upper))", "SaveMarketplace(m)"),
    Mutant("a settled day passes over who was in trouble", DECIDE, "start = min((m.settled_position for m in _untroubled(view))", "start = max((m.settled_position for m in _untroubled(view))"),
    Mutant("a settled day is read of those only who are behind", DECIDE, "if m.settled_position < upper]", "if m.settled_position == start]"),
    Mutant("a day counts as settled too early", DECIDE, "if upper <= view.amazon_now - SETTLED_AFTER else None", "if upper <= view.amazon_now else None"),
    Mutant("a look is not noted", DECIDE, "polled_at=view.now - short_by", "polled_at=view.source.polled_at"),
    Mutant("a short look counts as a whole one", DECIDE, "polled_at=view.now - short_by", "polled_at=view.now"),
    Mutant("the rate is not measured", RESULTS, "return rate + share * (page.orders / seconds - rate)", "return rate"),
    Mutant("an overfull look teaches nothing", RESULTS, "return max(rate * RATE_RAISED, page.orders / seconds) if was_to_fit else rate", "return rate"),
    # AdvanceBackfill, CountPage, CloseBackfillWindow
    Mutant("history is read again and again", DECIDE, ", AdvanceBackfill(backfill.backfill_id, lower)", ""),
    Mutant("pages of history are not counted", RESULTS, "[CountPage(window.backfill_id, page.orders)]", "[]"),
    Mutant("a backfill never ends", RESULTS, "effects.append(CloseBackfillWindow(window))", "pass"),
    # pace and turns
    Mutant("a full page waits for its pace", DECIDE, "due = min(due, max(polled_at, view.now + (full - view.signpost)))", "pass"),
    Mutant("late second looks get no room", DECIDE, "_second_look_late(view) / LATE", "0.0"),
    Mutant("live looks get ever slower", DECIDE, "min(seconds, max(SLOWEST_PACE, 2.0 / view.bucket.rate))", "seconds"),
    Mutant("an overlap fills the page", DECIDE, "upper - span * OVERLAP_SHARE", "upper - span"),
    Mutant("a look has no overlap", DECIDE, "lower = max(start - LONGEST_OVERLAP, min(", "lower = max(start, min("),
    Mutant("a waiting backfill starves", DECIDE, "if turns.get(kind, 0) >= TURN]", "if False]"),
    Mutant("sweeps take turns from live looks in the evening", DECIDE, "< MUCH_TOO_LATE:", "< timedelta(0):"),
)  # fmt: skip


def killers(number: int, mutant: Mutant) -> tuple[Mutant, str | None]:
    """Return the first test that fails with a mutant; None if all pass."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        tree = Path(name)
        for folder in ("poller", "connectors", "store", "config", "tests"):
            shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", tree)
        file = tree / mutant.file
        text = file.read_text()
        if text.count(mutant.old) != 1:
            return mutant, f"does not apply: its line stands in {mutant.file} {text.count(mutant.old)} times"
        file.write_text(text.replace(mutant.old, mutant.new))
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider", *TESTS],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        failed = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        return mutant, failed[0].split("::")[-1].split(" - ")[0] if failed else None


def results(mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, str | None]]:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        yield from pool.map(killers, range(len(mutants)), mutants)


def main() -> int:
    bad = 0
    for mutant, killer in results(MUTANTS):
        is_bad = killer is None or killer.startswith("does not apply")
        bad += is_bad
        print(
            f"{'SURVIVES' if killer is None else 'killed  '}  {mutant.meaning}: {killer or mutant.file}",
            flush=True,
        )
    print(f"{len(MUTANTS)} mutants, {len(MUTANTS) - bad} killed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
