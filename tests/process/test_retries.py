"""Retries outlast a store that is away for half a minute, and end within the time that was set."""

import logging
from dataclasses import dataclass, field

import pytest

from squadron.errors import StoreError
from squadron.process.retries import (
    LONGEST_PAUSE_SECONDS,
    LONGEST_STORE_PAUSE_SECONDS,
    Failure,
    Retries,
    pause_seconds,
    retried,
)
from squadron.settings.schema import Settings
from squadron.settings.store_sections import PgvectorSettings, PineconeSettings, WeaviateSettings, hurried


@dataclass
class Store:
    """It fails for ever, each attempt after so many seconds of a clock that only it and the pauses move."""

    failure: Failure
    attempt_seconds: float = 0.0
    now: float = 1000.0
    pauses: list[float] = field(default_factory=list)

    def attempt(self) -> None:
        self.now += self.attempt_seconds
        raise TimeoutError("no answer")

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def error_after(self, deadline_seconds: float, max_retries: int | None = None) -> StoreError:
        """What the caller gets in the end."""
        retries = Retries("store.weaviate", deadline_seconds, max_retries, lambda: self.now, self.sleep)
        with pytest.raises(StoreError) as ended:
            retries.answer(self.attempt, TimeoutError, lambda error: self.failure, StoreError)
        return ended.value


AWAY = Failure("Weaviate did not count", "no answer", may_pass=True)


@pytest.mark.parametrize("section", [WeaviateSettings, PineconeSettings, PgvectorSettings])
def test_the_usual_settings_wait_long_enough_for_a_restart_and_never_long_at_a_time(section: type) -> None:
    usual, store = section(), Store(AWAY)

    store.error_after(usual.deadline_seconds, getattr(usual, "max_retries", None))

    assert 45 <= sum(store.pauses) <= usual.deadline_seconds
    assert max(store.pauses) <= LONGEST_STORE_PAUSE_SECONDS
    assert store.pauses[0] <= 0.5


def test_time_that_the_attempts_take_counts_from_the_first_failure_on() -> None:
    store = Store(AWAY, attempt_seconds=30)

    store.error_after(120)

    assert 1000 + 120 < store.now <= 1000 + 30 + 120 + 30


def test_a_number_of_retries_ends_it_sooner() -> None:
    store = Store(AWAY)

    error = store.error_after(120, max_retries=3)

    assert len(store.pauses) == 3
    assert str(error) == (
        "Weaviate did not count after 4 attempts: no answer (it was given up by store.weaviate.max_retries = 3)"
    )
    assert isinstance(error.__cause__, TimeoutError)


def test_attempts_that_a_client_made_on_its_own_count() -> None:
    store = Store(Failure("Weaviate did not count", "no answer", may_pass=True, attempts=6))

    assert "after 12 attempts" in str(store.error_after(120, max_retries=11))
    assert len(store.pauses) == 1


def test_the_pause_that_a_store_asks_for_is_kept_as_far_as_the_deadline_goes() -> None:
    patient = Store(Failure("searching", "busy", may_pass=True, retry_after_seconds=100))
    hasty = Store(Failure("searching", "busy", may_pass=True, retry_after_seconds=121))

    assert "deadline_seconds = 120" in str(patient.error_after(120))
    assert len(patient.pauses) == 1
    assert 100 <= patient.pauses[0] <= 110
    assert str(hasty.error_after(120)) == "searching: busy"
    assert hasty.pauses == []


def test_a_store_that_asks_for_no_pause_gets_one_that_grows() -> None:
    store = Store(Failure("searching", "busy", may_pass=True, retry_after_seconds=0))

    store.error_after(120, max_retries=10)

    assert 0 < store.pauses[0] < store.pauses[-1] < 1


def test_a_failure_that_does_not_pass_ends_it_and_counts() -> None:
    failures = iter([AWAY, Failure("Weaviate did not count", "no such class", may_pass=False)])
    retries = Retries("store.weaviate", 120, sleep=lambda seconds: None)

    with pytest.raises(StoreError) as ended:
        retries.answer(Store(AWAY).attempt, TimeoutError, lambda error: next(failures), StoreError)

    assert str(ended.value) == "Weaviate did not count after 2 attempts: no such class"


def test_an_error_that_holds_a_key_is_not_the_cause() -> None:
    error = Store(Failure("searching", "the key [key]", may_pass=False, shows_secret=True)).error_after(120)

    assert error.__cause__ is None
    assert error.__suppress_context__


def test_every_retry_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Store(AWAY).error_after(120, max_retries=2)

    assert [line.partition(". Trying again in ")[0] for line in caplog.messages] == [
        "Weaviate did not count: no answer",
        "Weaviate did not count after 2 attempts: no answer",
    ]


def test_other_errors_are_raised_at_once() -> None:
    def request() -> None:
        requests.append(1)
        raise KeyError("id")

    requests: list[int] = []
    with pytest.raises(KeyError):
        retried(request, TimeoutError, lambda error: 0.0)
    assert requests == [1]


def test_an_answer_ends_the_pauses() -> None:
    answers: list[object] = [TimeoutError(), TimeoutError(), "answer", "another"]

    def request() -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retried(request, TimeoutError, lambda error: 0.0) == "answer"
    assert answers == ["another"]


def test_pauses_double_up_to_the_longest() -> None:
    for failures in range(1, 60):
        longest = min(LONGEST_PAUSE_SECONDS, 0.5 * 2 ** (failures - 1))
        assert longest / 2 <= pause_seconds(failures) <= longest


def test_who_is_in_a_hurry_gives_up_sooner() -> None:
    stores = [Settings.model_validate({"store": {"name": name}}).store for name in ("weaviate", "pgvector", "lancedb")]

    weaviate, pgvector, lancedb = (hurried(store, 5) for store in stores)

    assert (weaviate.weaviate.deadline_seconds, pgvector.pgvector.deadline_seconds) == (5, 5)
    assert (weaviate.pgvector.deadline_seconds, lancedb) == (120, stores[2])


def test_the_settings_of_earlier_versions_are_taken() -> None:
    store = Settings.model_validate({"store": {"pinecone": {"max_retries": 5}, "weaviate": {"max_retries": 0}}}).store

    assert (store.pinecone.max_retries, store.weaviate.max_retries) == (5, 0)
