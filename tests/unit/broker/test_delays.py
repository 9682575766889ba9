"""What the scheduler is asked for: never more than the time until the ETA, and nothing where there is none to read."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.broker.delays import DELAY, GUARD_MS, GUARD_MS_OF_UNKNOWN, LEAD_MS, REPEATS, delay_ms, guard_ms, read_eta


@given(st.datetimes(timezones=st.none() | st.just(UTC) | st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))))
def test_any_eta_is_read_as_the_instant_that_celery_means(eta: datetime) -> None:
    assert read_eta({"eta": eta.isoformat()}) == (eta if eta.tzinfo else eta.replace(tzinfo=UTC))


@pytest.mark.parametrize("eta", [None, "", "tomorrow", 5, ["2027-01-01"]])
def test_what_is_no_eta_delays_nothing(eta: object) -> None:
    assert delay_ms({"eta": eta}) == 0


def test_the_past_and_the_next_moment_delay_nothing() -> None:
    for milliseconds in (-86_400_000, 0, LEAD_MS // 2):
        assert delay_ms({"eta": (datetime.now(UTC) + timedelta(milliseconds=milliseconds)).isoformat()}) == 0


def test_the_end_of_pythons_time_is_within_the_schedulers_range() -> None:
    assert 0 < delay_ms({"eta": datetime.max.replace(tzinfo=UTC).isoformat()}) < 2**63


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_guard_is_due_before_what_it_guards(sent_ms_ago: int, delay: int) -> None:
    before = int(time.time() * 1000)
    guard = guard_ms({"timestamp": str(before - sent_ms_ago), DELAY: str(delay)})
    assert 0 <= guard <= max(0, min(GUARD_MS, (delay - sent_ms_ago) // 2))
    if delay - sent_ms_ago > 10 * GUARD_MS:
        assert guard == GUARD_MS


@pytest.mark.parametrize("repeat", REPEATS)
def test_what_comes_again_does_not_tell_when_it_is_due(repeat: str) -> None:
    assert guard_ms({repeat: "5"}) == guard_ms({"timestamp": "0", DELAY: "5", repeat: "5"}) == GUARD_MS_OF_UNKNOWN
