"""What is sent keeps the limits, by a clock of the test's own."""

from hypothesis import given, settings
from hypothesis import strategies as st

from squadron.embeddings.remote.pacing import BURST_SECONDS, Pace


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def sent(pace: Pace, clock: Clock, requests: list[dict[str, int]]) -> list[float]:
    """When each request would be sent by one sender that waits as told."""
    times = []
    for amounts in requests:
        clock.now += pace.reserve(amounts)
        times.append(clock.now)
    return times


def test_without_a_limit_nothing_waits() -> None:
    pace = Pace({"requests": None, "tokens": None})
    assert [pace.reserve({"requests": 1, "tokens": 10**9}) for _ in range(100)] == [0.0] * 100


def test_the_limit_is_used_up() -> None:
    clock = Clock()
    times = sent(Pace({"tokens": 60_000}, clock), clock, [{"tokens": 500}] * 1200)
    seconds = times[-1] - times[0]
    assert 0.98 * 600_000 / 1000 - BURST_SECONDS <= seconds <= 600_000 / 1000


def test_the_stricter_of_two_limits_counts() -> None:
    clock = Clock()
    times = sent(Pace({"requests": 60, "tokens": 10**9}, clock), clock, [{"requests": 1, "tokens": 10}] * 100)
    assert times[-1] - times[0] >= 99 - BURST_SECONDS - 1


def test_after_a_pause_no_more_than_the_burst_is_made_up_for() -> None:
    clock = Clock()
    pace = Pace({"requests": 60}, clock)
    clock.now += 3600
    at_once = [pace.reserve({"requests": 1}) for _ in range(20)].count(0.0)
    assert at_once == BURST_SECONDS + 1


def test_what_the_service_counts_otherwise_is_corrected() -> None:
    clock = Clock()
    pace = Pace({"tokens": 60}, clock)
    pace.reserve({"tokens": 65})
    assert pace.reserve({"tokens": 0}) == 60
    pace.correct("tokens", -60)
    assert pace.reserve({"tokens": 0}) == 0
    pace.correct("texts", 5)


@settings(deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=60), st.lists(st.floats(0, 20), max_size=60))
def test_no_minute_holds_more_than_the_limit_and_the_burst(sizes: list[int], pauses: list[float]) -> None:
    clock, limit = Clock(), 3000
    pace, times = Pace({"tokens": limit}, clock), []
    for position, size in enumerate(sizes):
        clock.now += pauses[position] if position < len(pauses) else 0
        clock.now += pace.reserve({"tokens": size})
        times.append(clock.now)
    for first, start in enumerate(times):
        # The last of them may be paid for after the minute: it starts as soon as those before it are.
        within = [size for size, at in zip(sizes[first:], times[first:], strict=True) if at < start + 60]
        assert sum(within[:-1]) <= limit * (60 + BURST_SECONDS) / 60 + 1e-6
