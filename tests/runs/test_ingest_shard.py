"""Ingesting: batches are read, embedded and written at the same time, and an error of one stage ends the others."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from squadron.errors import GuardError, StoreError
from squadron.runs import ingest_shard
from squadron.runs.results import Ingested
from tests.whole_runs import numbered, run, stored_rows, write_corpus

PATIENCE_SECONDS = 60


def counted(number: int) -> Ingested:
    return Ingested(embedded=1, written=number)


def batches(numbers: Iterator[int] | range) -> Any:
    return ((number, [str(number)]) for number in numbers)


def overlapped(numbers: Any, embed: Any = lambda number, texts: number, write: Any = counted) -> Ingested:
    return ingest_shard.overlapped(batches(numbers), embed, write, lambda: None)


def test_what_became_of_all_batches_is_added_up():
    done = overlapped(range(1, 11))

    assert (done.embedded, done.written) == (10, 55)
    assert overlapped(range(0)) == Ingested()


def test_batches_are_written_in_their_order():
    written: list[int] = []

    overlapped(range(20), write=lambda number: written.append(number) or Ingested())

    assert written == list(range(20))


def test_a_batch_is_embedded_while_the_one_before_is_written_and_the_next_one_read():
    read, embedding = Event(), Event()

    def numbers() -> Iterator[int]:
        yield from (0, 1)
        read.set()
        yield 2

    def embed(number: int, texts: list[str]) -> int:
        if number == 1:
            assert read.wait(PATIENCE_SECONDS)
            embedding.set()
        return number

    def write(number: int) -> Ingested:
        assert embedding.wait(PATIENCE_SECONDS)
        return counted(1)

    assert overlapped(numbers(), embed, write).written == 3


def test_a_batch_that_cannot_be_written_ends_the_run_before_the_next_is_written():
    written: list[int] = []

    def write(number: int) -> Ingested:
        if number == 1:
            raise StoreError("full")
        written.append(number)
        return Ingested()

    with pytest.raises(StoreError, match="full"):
        overlapped(range(10), write=write)

    assert written == [0]


def test_a_batch_that_cannot_be_embedded_leaves_those_before_it_written():
    written: list[int] = []

    def embed(number: int, texts: list[str]) -> int:
        if number == 3:
            raise ValueError("refused")
        return number

    with pytest.raises(ValueError, match="refused"):
        overlapped(range(10), embed, lambda number: written.append(number) or Ingested())

    assert written == [0, 1, 2]


def test_a_shard_that_cannot_be_read_on_leaves_what_was_read_written():
    written: list[int] = []

    def numbers() -> Iterator[int]:
        yield from range(3)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        overlapped(numbers(), write=lambda number: written.append(number) or Ingested())

    assert written[:2] == [0, 1]


def test_nothing_is_embedded_after_the_budget_is_spent():
    embedded: list[int] = []

    def check() -> None:
        if len(embedded) == 2:
            raise GuardError("spent")

    def embed(number: int, texts: list[str]) -> int:
        embedded.append(number)
        return number

    with pytest.raises(GuardError, match="spent"):
        ingest_shard.overlapped(batches(range(10)), embed, counted, check)

    assert embedded == [0, 1]


def test_small_batches_store_what_a_large_one_does(settings_with, tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", numbered(*range(50)))
    whole = settings_with(**corpus)
    small = settings_with(**corpus, **{"ingest.batch_passages": 3, "store.lancedb.uri": "other"})

    generation = run(whole).plan.generation
    again = run(small)

    assert again.ingested.written == 50
    assert stored_rows(small, generation) == stored_rows(whole, generation)
