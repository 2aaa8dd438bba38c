"""Signing in, on both databases: attempts, passwords, one-time codes, sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Thread

import pyotp
import pytest
import sqlalchemy as sa
import structlog

from poller.errors import Refused
from poller.web import passwords, second_factor
from poller.web.attempts import MAX_FAILURES, PAIR
from poller.web.sign_in import (
    Client,
    Entered,
    Wait,
    Wrong,
    by_code,
    by_password,
    change_password,
    set_up_totp,
    without_password,
)
from poller.web.tokens import digest
from poller.web.users import MAX_AWAITING, MAX_IDLE, MAX_SESSION, browser_of, is_over
from store import rotation, sessions, sign_in_failures, tables, users
from store.engine import Store, create_engine
from store.sealing import Sealer
from store.sessions import Session
from tests.harness import KEY, NOON, SimulatedClock

PASSWORD = "correct horse battery"
ANOTHER = "violet hammer meadow"
HERE = Client("192.0.2.7", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
ELSEWHERE = Client("198.51.100.9", "curl/8")


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing is slow by design; these tests hash often."""
    monkeypatch.setattr(passwords, "hashed", lambda text: f"#{text}")
    monkeypatch.setattr("poller.web.sign_in.hashed", lambda text: f"#{text}")
    matches = lambda kept, text: kept == f"#{text}"  # noqa: E731
    monkeypatch.setattr(passwords, "password_matches", matches)
    monkeypatch.setattr("poller.web.sign_in.password_matches", matches)


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOON)


@pytest.fixture
def store(database_url: str, clock: SimulatedClock) -> Iterator[Store]:
    """A store with a clock of its own and one user."""
    opened = Store(create_engine(database_url), Sealer([KEY]), clock)
    assert opened.commit(lambda tx: users.add(tx, "ann", f"#{PASSWORD}", ("read",)))
    assert not opened.commit(lambda tx: users.add(tx, "ann", "#", ("read", "write")))
    yield opened
    opened.close()


def fail(store: Store, times: int, client: Client = HERE, name: str = "ann") -> list[Entered | Wrong | Wait]:
    return [by_password(store, client, name, "wrong") for _ in range(times)]


def entered(store: Store, client: Client = HERE, password: str = PASSWORD) -> Session:
    outcome = by_password(store, client, "ann", password)
    assert isinstance(outcome, Entered), outcome
    return session_of(store, outcome)


def session_of(store: Store, outcome: object) -> Session:
    assert isinstance(outcome, Entered), outcome
    with store.read() as tx:
        found = sessions.find(tx, digest(outcome.token))
    assert found is not None
    return found


def wait_out(store: Store, clock: SimulatedClock, failures: int, name: str = "ann") -> None:
    """Fail that often, each time as soon as it is allowed."""
    made = 0
    while made < failures:
        match by_password(store, HERE, name, "wrong"):
            case Wrong():
                made += 1
            case Wait(seconds):
                clock.sleep(seconds)


# --- attempts ---------------------------------------------------------------------------------------


def test_failures_make_this_network_wait_and_no_other(store: Store, clock: SimulatedClock) -> None:
    assert fail(store, 5) == [*[Wrong()] * 4, Wait(1)]
    assert by_password(store, HERE, "ann", PASSWORD) == Wait(1), "the right password is not checked, either"
    assert isinstance(by_password(store, ELSEWHERE, "ann", PASSWORD), Entered)
    clock.sleep(1)
    assert fail(store, 2) == [Wrong(), Wait(2)]
    wait_out(store, clock, 5)
    assert fail(store, 1) == [Wait(round(PAIR.longest.total_seconds()))]
    clock.go_to(clock() + PAIR.longest)
    assert isinstance(by_password(store, HERE, "ann", PASSWORD), Entered)
    assert fail(store, 4) == [Wrong()] * 4, "a success forgets the failures"


def test_attempts_at_once_are_no_more_than_one_after_the_other(store: Store) -> None:
    found: list[object] = []
    threads = [Thread(target=lambda: found.extend(fail(store, 1))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([one for one in found if isinstance(one, Wrong)]) == 4


def test_one_password_for_many_names_is_slowed_down(store: Store) -> None:
    outcomes = [by_password(store, HERE, f"user{number}", PASSWORD) for number in range(40)]
    assert [type(outcome) for outcome in outcomes] == [Wrong] * 21 + [Wait] * 19
    assert isinstance(by_password(store, ELSEWHERE, "ann", PASSWORD), Entered)


def test_unlocking_lets_a_user_in_from_everywhere(store: Store, clock: SimulatedClock) -> None:
    wait_out(store, clock, MAX_FAILURES)
    assert isinstance(fail(store, 1)[0], Wait)
    store.commit(lambda tx: sign_in_failures.unlock(tx, "ann"))
    assert isinstance(by_password(store, HERE, "ann", PASSWORD), Entered)


def test_an_unknown_name_causes_the_same_statements(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def check(_kept: str | None, text: str) -> bool:
        checked.append(text)
        return False

    monkeypatch.setattr("poller.web.sign_in.password_matches", check)

    def statements(name: str, password: str, address: str) -> list[str]:
        seen: list[str] = []

        def note(_c: object, _cur: object, statement: str, *_: object) -> None:
            seen.append(statement)

        sa.event.listen(store.engine, "before_cursor_execute", note)
        try:
            assert by_password(store, Client(address, ""), name, password) == Wrong()
        finally:
            sa.event.remove(store.engine, "before_cursor_execute", note)
        return seen

    for password in ("wrong", "x" * 300):  # the first and a second attempt
        assert statements("ann", password, "192.0.2.1") == statements("unknown", password, "192.0.2.2")
    assert checked == ["wrong", "wrong", "x" * 300, "x" * 300]


def test_the_next_session_knows_of_the_failures_before_it(store: Store, clock: SimulatedClock) -> None:
    assert entered(store).failures == 0
    fail(store, 2)
    clock.sleep(60)
    fail(store, 1, ELSEWHERE)
    failed_at = clock()
    clock.sleep(60)
    session = entered(store)
    assert (session.failures, session.failed_at, session.failed_from) == (3, failed_at, ELSEWHERE.address)
    assert entered(store).failures == 0


def test_names_are_not_kept_and_rows_are_bounded(
    store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_failures, "MAX_ROWS", 60)
    fail(store, 2)
    for number in range(60):
        clock.sleep(1)
        client = Client(f"192.0.{number}.1", "")
        assert by_password(store, client, f"my-password-{number}", "x") == Wrong()
    with store.read() as tx:
        rows = tx.rows(sa.select(tables.sign_in_failures))
        assert sign_in_failures.of_name(tx, "ann") is not None, "the failures of users go last"
    assert len(rows) <= 62
    assert "my-password" not in repr(rows)


def test_failures_are_forgotten_after_a_season(store: Store, clock: SimulatedClock) -> None:
    fail(store, 1, name="someone")
    clock.go_to(NOON + sign_in_failures.KEPT_FOR)
    fail(store, 1, name="another")
    with store.read() as tx:
        assert len(tx.rows(sa.select(tables.sign_in_failures))) == 3


# --- sessions ---------------------------------------------------------------------------------------


def test_a_session_ends_with_its_user_and_is_cleared_away(store: Store, clock: SimulatedClock) -> None:
    first = entered(store)
    assert (first.name, first.scopes, first.method, first.address) == (
        "ann",
        ("read",),
        "password",
        HERE.address,
    )
    clock.go_to(NOON + MAX_SESSION)
    second = entered(store)
    with store.read() as tx:
        assert sessions.find(tx, first.digest) is None
        (user,) = users.load(tx)
    assert (user.signed_in_at, user.signed_in_from) == (NOON + MAX_SESSION, HERE.address)
    assert store.commit(lambda tx: users.remove(tx, "ann"))
    with store.read() as tx:
        assert sessions.find(tx, second.digest) is None
        assert not users.is_any(tx)


def test_sessions_are_listed_and_ended_one_by_one_or_all(store: Store, clock: SimulatedClock) -> None:
    store.commit(lambda tx: users.add(tx, "bob", f"#{PASSWORD}", ("read",)))
    mine = [entered(store) for _ in range(3)]
    bobs = session_of(store, by_password(store, ELSEWHERE, "bob", PASSWORD))
    clock.sleep(5)
    store.commit(lambda tx: sessions.see(tx, mine[1].digest))
    with store.read() as tx:
        assert sessions.load(tx, "ann")[0].digest == mine[1].digest
        assert len(sessions.load(tx)) == 4
    assert not store.commit(lambda tx: sessions.end_one(tx, "ann", bobs.public_id))
    assert store.commit(lambda tx: sessions.end_one(tx, "ann", mine[0].public_id))
    assert store.commit(lambda tx: sessions.end_all(tx, "ann", but=mine[1].digest)) == 1
    with store.read() as tx:
        assert [session.name for session in sessions.load(tx)] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("age", "idle", "over"),
    [
        (timedelta(), timedelta(), False),
        (MAX_IDLE, MAX_IDLE, True),
        (MAX_SESSION - timedelta(seconds=1), timedelta(), False),
        (MAX_SESSION, timedelta(), True),
    ],
)
def test_a_session_is_over(store: Store, age: timedelta, idle: timedelta, over: bool) -> None:
    session = replace(entered(store), created_at=NOON - age, seen_at=NOON - idle)
    assert is_over(session, NOON) is over
    assert is_over(replace(session, awaits_code=True), NOON) is (over or age >= MAX_AWAITING)


def test_browsers_are_named_briefly() -> None:
    assert browser_of(HERE.browser) == "Firefox on Linux"
    assert browser_of("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537 Chrome/131 Safari/537 Edg/131") == (
        "Edge on Windows"
    )
    assert browser_of("curl/8.5") == "curl/8.5"
    assert browser_of("") == ""


# --- passwords --------------------------------------------------------------------------------------


def test_a_changed_password_ends_all_other_sessions(store: Store) -> None:
    other, session = entered(store, ELSEWHERE), entered(store)
    outcome = change_password(store, HERE, session, PASSWORD, ANOTHER)
    with store.read() as tx:
        assert sessions.find(tx, other.digest) is None
        assert sessions.find(tx, session.digest) is None
    assert session_of(store, outcome).name == "ann"
    assert by_password(store, HERE, "ann", PASSWORD) == Wrong()
    assert entered(store, password=ANOTHER).failures == 1


def test_a_password_changes_only_with_the_present_one(store: Store) -> None:
    session = entered(store)
    outcomes = [change_password(store, HERE, session, "wrong", ANOTHER) for _ in range(5)]
    assert outcomes == [*[Wrong()] * 4, Wait(1)], "guesses are limited as when signing in"


def test_the_last_ten_passwords_cannot_be_chosen_again(store: Store, clock: SimulatedClock) -> None:
    session, present = entered(store), PASSWORD
    clock.sleep(1)
    texts = [f"violet hammer meadow {number}" for number in range(10)]
    for text in texts:
        session = session_of(store, change_password(store, HERE, session, present, text))
        present = text
        clock.go_to(clock() + passwords.MIN_AGE)
        with pytest.raises(Refused, match="last 10"):
            change_password(store, HERE, session, present, texts[0])
    with store.read() as tx:
        assert len(users.last_passwords(tx, "ann", 99)) == 10
    assert isinstance(change_password(store, HERE, session, present, PASSWORD), Entered)


def test_a_chosen_password_stays_for_a_day_but_not_one_that_was_given(
    store: Store, clock: SimulatedClock
) -> None:
    session = session_of(store, change_password(store, HERE, entered(store), PASSWORD, ANOTHER))
    with pytest.raises(Refused, match="a day later"):
        change_password(store, HERE, session, ANOTHER, "a third phrase of words")
    clock.go_to(NOON + passwords.MIN_AGE)
    assert isinstance(change_password(store, HERE, session, ANOTHER, "a third phrase of words"), Entered)


def test_of_two_changes_at_once_one_is_refused(store: Store) -> None:
    def set_to(text: str) -> bool:
        return store.commit(
            lambda tx: users.set_password(
                tx, "ann", text, before=f"#{PASSWORD}", is_chosen=False, remembered=10
            )
        )

    assert set_to("#one")
    assert not set_to("#two")


# --- one-time codes ---------------------------------------------------------------------------------


def with_totp(store: Store, at: datetime) -> tuple[str, list[str]]:
    secret = store.commit(lambda tx: users.prepare_totp(tx, "ann", second_factor.new_secret()))
    again = store.commit(lambda tx: users.prepare_totp(tx, "ann", second_factor.new_secret()))
    assert secret is not None
    assert again == secret, "a reloaded page shows the same secret"
    step = second_factor.step_of(secret, pyotp.TOTP(secret).at(at), at)
    assert step is not None
    codes = second_factor.new_recovery_codes()
    kept = [second_factor.recovery_digest(code) for code in codes]
    assert store.commit(lambda tx: users.confirm_totp(tx, "ann", step, kept))
    assert not store.commit(lambda tx: users.confirm_totp(tx, "ann", step, kept))
    return secret, codes


def test_after_the_password_a_one_time_code_is_needed_once(store: Store, clock: SimulatedClock) -> None:
    secret, _ = with_totp(store, NOON)
    waiting = entered(store)
    assert waiting.awaits_code
    code = pyotp.TOTP(secret).at(NOON)
    assert by_code(store, HERE, waiting, code) == Wrong(), "the code that set it up was used"
    clock.sleep(30)
    code = pyotp.TOTP(secret).at(clock())
    complete = session_of(store, by_code(store, HERE, waiting, code))
    assert not complete.awaits_code
    assert complete.failures == 1
    with store.read() as tx:
        assert sessions.find(tx, waiting.digest) is None
    assert by_code(store, HERE, entered(store), code) == Wrong(), "a code is accepted once"


def test_a_session_that_was_ended_meanwhile_is_not_completed(store: Store) -> None:
    _, codes = with_totp(store, NOON)
    waiting = entered(store)
    store.commit(lambda tx: sessions.end_all(tx, "ann"))
    assert by_code(store, HERE, waiting, codes[0]) == Wrong()


def test_guessed_codes_are_limited_like_passwords(store: Store) -> None:
    with_totp(store, NOON)
    waiting = entered(store)
    outcomes = [by_code(store, HERE, waiting, "000000") for _ in range(5)]
    assert outcomes == [*[Wrong()] * 4, Wait(1)]
    assert entered(store, ELSEWHERE).awaits_code


def test_codes_are_counted_over_all_networks(store: Store, clock: SimulatedClock) -> None:
    """Who guesses codes knows the password; a network of IPv6 has very many others beside it."""
    secret, _ = with_totp(store, NOON)
    waiting = entered(store)
    many = [replace(HERE, address=f"2001:db8:0:{number:x}::1") for number in range(600)]
    outcomes = [by_code(store, client, waiting, "000000") for client in many]
    assert outcomes[:4] == [Wrong()] * 4
    assert all(isinstance(outcome, Wait) for outcome in outcomes[4:])
    clock.sleep(2)
    assert isinstance(
        by_code(store, HERE, waiting, pyotp.TOTP(secret).at(clock() + timedelta(seconds=30))), Entered
    )


def test_codes_that_are_set_up_meanwhile_are_needed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def matches(kept: str, text: str) -> bool:
        with_totp(store, NOON)
        return kept == f"#{text}"

    monkeypatch.setattr("poller.web.sign_in.password_matches", matches)
    assert by_password(store, HERE, "ann", PASSWORD) == Wrong()


def test_a_damaged_secret_sets_nothing_up(store: Store) -> None:
    session = entered(store)
    store.commit(lambda tx: users.prepare_totp(tx, "ann", second_factor.new_secret()))
    with store.begin() as tx:
        tx.conn.execute(sa.update(tables.console_users).values(totp=b"damaged"))
    assert set_up_totp(store, HERE, session, "000000") is None


def test_a_user_of_another_provider_gets_no_password_by_a_session(store: Store) -> None:
    store.commit(lambda tx: users.add(tx, "bob", None, ("read",)))
    outcome = store.commit(lambda tx: without_password(tx, HERE, "bob", "oidc"))
    with pytest.raises(Refused, match="users passwd bob"):
        change_password(store, HERE, session_of(store, outcome), "", ANOTHER)
    by_link = store.commit(lambda tx: without_password(tx, HERE, "bob", "link"))
    assert isinstance(change_password(store, HERE, session_of(store, by_link), "", ANOTHER), Entered)


def test_changes_of_an_account_are_lines_of_the_log(store: Store) -> None:
    with structlog.testing.capture_logs() as events:
        session = entered(store)
        changed = session_of(store, change_password(store, HERE, session, PASSWORD, ANOTHER))
        secret = store.commit(lambda tx: users.prepare_totp(tx, "ann", second_factor.new_secret()))
        assert secret is not None
        assert set_up_totp(store, HERE, changed, pyotp.TOTP(secret).at(NOON)) is not None
    assert [event["event"] for event in events] == ["signed_in", "password_changed", "second_factor_changed"]


def test_each_recovery_code_is_good_for_once(store: Store, clock: SimulatedClock) -> None:
    _, codes = with_totp(store, NOON)
    assert isinstance(by_code(store, HERE, entered(store), codes[3].upper()), Entered)
    assert by_code(store, HERE, entered(store), codes[3]) == Wrong()
    with store.read() as tx:
        assert users.recovery_codes_left(tx, "ann") == 9


def test_a_reset_takes_codes_and_sessions_away(store: Store) -> None:
    with_totp(store, NOON)
    waiting = entered(store)
    assert store.commit(lambda tx: users.reset_totp(tx, "ann"))
    assert not store.commit(lambda tx: users.reset_totp(tx, "unknown"))
    with store.read() as tx:
        assert sessions.find(tx, waiting.digest) is None
        assert users.recovery_codes_left(tx, "ann") == 0
    assert not entered(store).awaits_code


def test_a_link_needs_the_code_and_another_provider_does_not(store: Store) -> None:
    with_totp(store, NOON)
    by_link = store.commit(lambda tx: without_password(tx, HERE, "ann", "link"))
    assert session_of(store, by_link).awaits_code
    elsewhere = store.commit(lambda tx: without_password(tx, HERE, "ann", "oidc"))
    assert not session_of(store, elsewhere).awaits_code
    assert store.commit(lambda tx: without_password(tx, HERE, "unknown", "oidc")) is None


def test_the_secret_is_sealed_and_resealed_with_a_new_key(store: Store) -> None:
    secret, _ = with_totp(store, NOON)
    with store.read() as tx:
        (sealed,) = tx.conn.execute(sa.select(tables.console_users.c.totp)).scalars()
    assert secret.encode() not in sealed
    newer = Store(store.engine, Sealer([b"2" * 32, KEY]))
    with newer.begin() as tx:
        batch = rotation.find(tx, "console_users", None, 10)
        assert rotation.reseal(tx, batch) == (1, 0)
        assert users.totp_secret(tx, "ann") == secret
