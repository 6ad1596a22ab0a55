"""Patience outlasts a store that is away for half a minute, and ends within the time that was set."""

import pytest

from squadron.settings.schema import Settings
from squadron.settings.store_sections import PgvectorSettings, PineconeSettings, WeaviateSettings, hurried
from squadron.stores.patience import LONGEST_WAIT_SECONDS, Patience


def waits(patience: Patience, clock: list[float], request_seconds: float = 0.0) -> list[float]:
    """All waits of a request that fails for ever, each attempt after so many seconds."""
    found = []
    while (wait := patience.wait_seconds(True)) is not None:
        found.append(wait)
        clock[0] += wait + request_seconds
    return found


@pytest.mark.parametrize("section", [WeaviateSettings, PineconeSettings, PgvectorSettings])
def test_the_usual_settings_wait_long_enough_for_a_restart_and_never_long_at_a_time(section: type) -> None:
    usual, clock = section(), [1000.0]

    waited = waits(Patience(usual.deadline_seconds, getattr(usual, "max_retries", None), lambda: clock[0]), clock)

    assert 45 <= sum(waited) <= usual.deadline_seconds
    assert max(waited) <= LONGEST_WAIT_SECONDS
    assert waited[0] <= 0.5


def test_time_that_the_attempts_take_counts() -> None:
    clock = [0.0]

    waits(Patience(120, None, lambda: clock[0]), clock, request_seconds=30)

    assert clock[0] <= 120 + 30


def test_a_number_of_retries_ends_it_sooner() -> None:
    clock = [0.0]
    patience = Patience(120, 3, lambda: clock[0])

    assert len(waits(patience, clock)) == 3
    assert patience.tried() == " after 4 attempts"
    assert patience.given_up("store.weaviate") == " (it was given up by store.weaviate.max_retries = 3)"


def test_what_a_store_asks_to_wait_is_waited_as_far_as_the_deadline_goes() -> None:
    patience = Patience(120, clock=lambda: 0.0)

    assert 100 <= (patience.wait_seconds(True, asked=100) or 0) <= 110
    assert patience.wait_seconds(True, asked=121) is None
    assert "deadline_seconds = 120" in patience.given_up("store.pinecone")


def test_a_store_that_asks_for_no_pause_gets_one_that_grows() -> None:
    patience = Patience(120, clock=lambda: 0.0)

    waited = [patience.wait_seconds(True, asked=0) or 0 for _ in range(10)]

    assert 0 < waited[0] < waited[-1] < 1


def test_what_does_not_pass_is_not_waited_for_and_counted() -> None:
    patience = Patience(120, clock=lambda: 0.0)
    patience.wait_seconds(True)

    assert patience.wait_seconds(False) is None
    assert patience.tried() == " after 2 attempts"
    assert patience.given_up("store.weaviate") == ""


def test_who_is_in_a_hurry_gives_up_sooner() -> None:
    stores = [Settings.model_validate({"store": {"name": name}}).store for name in ("weaviate", "pgvector", "lancedb")]

    weaviate, pgvector, lancedb = (hurried(store, 5) for store in stores)

    assert (weaviate.weaviate.deadline_seconds, pgvector.pgvector.deadline_seconds) == (5, 5)
    assert (weaviate.pgvector.deadline_seconds, lancedb) == (120, stores[2])


def test_the_settings_of_earlier_versions_are_taken() -> None:
    store = Settings.model_validate({"store": {"pinecone": {"max_retries": 5}, "weaviate": {"max_retries": 0}}}).store

    assert (store.pinecone.max_retries, store.weaviate.max_retries) == (5, 0)
