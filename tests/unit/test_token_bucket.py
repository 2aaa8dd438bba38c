"""The token bucket as a value: it gives what Amazon's plan gives and never more, whatever the clock does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from store.token_bucket import CLOCK_WAS_SET, Bucket, spend

NOON = datetime(2026, 6, 15, 12, tzinfo=UTC)
RATE = 0.0056
BURST = 20.0


def bucket(tokens: float = BURST, rate: float = RATE, burst: float = BURST) -> Bucket:
    return Bucket(rate, burst, tokens, NOON)


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


rates = st.floats(0.0005, 50)
bursts = st.integers(1, 40).map(float)
moments = st.floats(-7200, 90000).map(after)


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    burst = draw(bursts)
    return Bucket(draw(rates), burst, draw(st.floats(0, burst)), NOON)


def test_a_full_bucket_gives_its_burst_at_once_and_then_nothing() -> None:
    left, given_out = bucket(), 0
    while True:
        left, ready = spend(left, NOON)
        if ready is not None:
            break
        given_out += 1
    assert given_out == 20
    assert timedelta(seconds=178.5) < ready - NOON < timedelta(seconds=178.7)


def test_a_token_comes_back_every_178_6_seconds() -> None:
    left, ready = spend(bucket(0.0), after(178))
    assert ready is not None
    left, ready = spend(left, after(179))
    assert ready is None
    assert left.tokens < 0.01


def test_an_idle_day_fills_the_bucket_no_further_than_its_burst() -> None:
    assert bucket(3.0).at(after(86400)).tokens == BURST


def test_a_clock_that_goes_back_neither_gives_nor_takes() -> None:
    assert bucket(3.0).at(after(-300)) == bucket(3.0)
    left, ready = spend(bucket(3.0), after(-300))
    assert (left.tokens, left.counted_at, ready) == (2.0, NOON, None)


def test_a_clock_that_was_wrong_and_has_been_put_right_does_not_hold_a_bucket_up() -> None:
    """Counted a day ahead: nothing is added for that day, and refilling goes on from now."""
    put_right = bucket(0.0).at(after(-86400))
    assert (put_right.tokens, put_right.counted_at) == (0.0, after(-86400))
    assert spend(put_right, after(-86400 + 179))[1] is None


def test_a_reserve_is_left_alone_and_served_to_callers_without_one() -> None:
    left, ready = spend(bucket(1.5), NOON, reserve=1.0)
    assert left == bucket(1.5)
    assert ready == bucket(1.5).has_at(2.0) > NOON
    assert spend(bucket(1.5), NOON)[1] is None


def test_a_refusal_takes_nothing() -> None:
    left, ready = spend(bucket(0.25), NOON)
    assert ready is not None
    assert left == bucket(0.25)


@given(buckets(), st.lists(moments, max_size=60), st.floats(0, 1))
def test_a_bucket_is_never_negative_and_never_above_its_burst(
    start: Bucket, times: list[datetime], reserve: float
) -> None:
    left = start
    for now in times:
        left, _ = spend(left, now, reserve)
        assert 0 <= left.tokens <= left.burst


@given(buckets(), st.lists(moments, min_size=1, max_size=80))
def test_no_sequence_of_requests_gets_more_than_burst_and_rate_allow(
    start: Bucket, times: list[datetime]
) -> None:
    left, given_out = start, 0
    for now in times:
        left, ready = spend(left, now)
        given_out += ready is None
    # A clock that is put back by more than five minutes is believed: that time passes twice.
    passed, at = 0.0, NOON
    for now in times:
        passed += max(0.0, (now - at).total_seconds())
        at = now if now > at or at - now > CLOCK_WAS_SET else at
    assert given_out <= start.burst + start.rate * passed + 1e-6


@given(buckets(), st.floats(0, 1))
def test_the_time_that_is_named_is_when_a_request_succeeds_and_not_a_millisecond_earlier(
    start: Bucket, share: float
) -> None:
    reserve = share * (start.burst - 1.0)
    ready = start.has_at(1.0 + reserve)
    assert spend(start, ready, reserve)[1] is None
    earlier = ready - timedelta(milliseconds=1)
    if earlier > start.counted_at:
        assert spend(start, earlier, reserve)[1] is not None


@given(buckets(), moments)
def test_a_caller_that_comes_too_early_gets_a_time_that_holds(start: Bucket, now: datetime) -> None:
    left, ready = spend(start, now)
    if ready is not None:
        assert ready > now
        assert spend(left, ready)[1] is None
