"""Endpoints: for how long a place that does not answer is tried."""

from concurrent.futures import CancelledError
from threading import Event, Timer

import numpy as np
import pytest

from squadron.embeddings.remote.endpoints import FIRST_CONTACT_SECONDS, Answer, Endpoints, Limits
from squadron.embeddings.remote.failures import BusyServiceError, UnreachedServiceError

LIMITS = Limits(8, 1000, 1, None, None, None, timeout_seconds=60, deadline_seconds=600)
LONG = FIRST_CONTACT_SECONDS + 10


class Place:
    """Answers, or raises, one after the other."""

    name = "service.test:443"

    def __init__(self, *outcomes: Answer | BusyServiceError) -> None:
        self.outcomes = list(outcomes)

    def answer(self, texts: list[str], purpose: str, timeout_seconds: float) -> Answer:
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BusyServiceError):
            raise outcome
        return outcome


ANSWER = Answer(np.ones((1, 2), np.float32), 1)


def asked(place: Place, stopped: Event | None = None, limits: Limits = LIMITS) -> Answer:
    return Endpoints("openai", [place], limits).answer(["text"], "passages", 1, stopped or Event())


def test_a_place_that_was_never_reached_is_given_up_before_the_deadline_and_the_address_is_named() -> None:
    with pytest.raises(BusyServiceError, match=r"past the 120 s .* mend the network, .* embedding\.openai\.base_url"):
        asked(Place(UnreachedServiceError("cannot be reached", retry_after=LONG)))


def test_a_place_that_answers_to_be_busy_has_all_of_the_deadline() -> None:
    stopped = Event()
    Timer(0.2, stopped.set).start()  # else it waits for the place
    with pytest.raises(CancelledError):
        asked(Place(BusyServiceError("answered 503", retry_after=LONG)), stopped)


def test_a_place_that_has_answered_before_has_all_of_the_deadline() -> None:
    stopped = Event()
    endpoints = Endpoints("openai", [Place(ANSWER, UnreachedServiceError("broke off", retry_after=LONG))], LIMITS)
    endpoints.answer(["text"], "passages", 1, stopped)
    Timer(0.2, stopped.set).start()
    with pytest.raises(CancelledError):
        endpoints.answer(["text"], "passages", 1, stopped)


def test_rate_limits_for_ever_are_answered_with_advice_on_rates() -> None:
    with pytest.raises(BusyServiceError, match=r"past deadline_seconds = 600\. .*tokens_per_minute"):
        asked(Place(BusyServiceError("answered 429", retry_after=700)))
