"""Overlap: what a thread makes ahead comes in order, no more of it than asked for, and its errors are raised once."""

from collections.abc import Iterator
from threading import Event, current_thread

import pytest

from squadron.process.prefetch import prefetched

PATIENCE_SECONDS = 60


def test_items_come_in_their_order_and_from_another_thread():
    with prefetched((number, current_thread()) for number in range(100)) as items:
        found = list(items)

    assert [number for number, _ in found] == list(range(100))
    assert {thread for _, thread in found} != {current_thread()}


def test_no_items_are_none():
    with prefetched([]) as items:
        assert list(items) == []


def test_an_item_is_made_while_the_one_before_is_used():
    second = Event()

    def numbers() -> Iterator[int]:
        yield 1
        second.set()
        yield 2

    with prefetched(numbers(), most=1) as items:
        assert next(items) == 1
        assert second.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_are_made_than_may_wait(most):
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number

    with prefetched(numbers(), most) as items:
        for used, _ in enumerate(items, 1):
            assert len(made) <= used + most


def test_an_error_comes_after_the_items_before_it():
    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with prefetched(numbers()) as items:
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken"):
            next(items)


def test_the_making_has_ended_when_the_reader_stops_early():
    ended: list[str] = []

    def numbers() -> Iterator[int]:
        try:
            yield from range(1_000_000)
        finally:
            ended.append(current_thread().name)

    with pytest.raises(KeyError), prefetched(numbers()) as items:
        next(items)
        raise KeyError

    assert ended == ["prefetch"]
