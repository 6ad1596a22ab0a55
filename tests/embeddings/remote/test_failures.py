"""How long to wait, and for which failures."""

from email.utils import formatdate
from time import time

import pytest

from squadron.embeddings.openai_batch.service import TRIES
from squadron.embeddings.remote.failures import (
    BusyServiceError,
    DeniedServiceError,
    RefusedRequestError,
    failure,
    quotable,
    retry_after,
)
from squadron.process.retries import LONGEST_PAUSE_SECONDS, pause_seconds
from squadron.settings.embedding_sections import CohereSettings, OpenAISettings


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3),
        ({"retry-after": "-4"}, 0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_what_the_service_asks_is_understood(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_to_come_is_so_many_seconds_away() -> None:
    seconds = retry_after({"retry-after": formatdate(time() + 3600, usegmt=True)})
    assert seconds == pytest.approx(3600, abs=60)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, RefusedRequestError) for status in (400, 413, 422, 498)),
        *((status, DeniedServiceError) for status in (401, 402, 403, 404, 405, 451)),
        *((status, BusyServiceError) for status in (200, 408, 409, 425, 429, 499, 500, 502, 503, 504, 529)),
    ],
)
def test_a_status_is_the_texts_fault_or_final_or_passes(status: int, kind: type[Exception]) -> None:
    found = failure(status, "reason", {}, {401: "advice"})
    assert type(found) is kind
    assert str(found) == f"answered {status}: {'advice' if status == 401 else 'reason'}"


def test_what_is_told_has_no_key_and_is_short() -> None:
    said = quotable("Incorrect key sk-secret:\n\n  see " + "x" * 1000, "sk-secret")
    assert said.startswith("Incorrect key [key]: see xxx")
    assert len(said) < 310


def test_the_tries_of_a_batch_s_creation_last_longer_than_a_service_that_is_away_for_half_a_minute() -> None:
    waits = [pause_seconds(failures) for failures in range(1, TRIES)]

    assert sum(waits) >= 45
    assert max(waits) <= LONGEST_PAUSE_SECONDS


@pytest.mark.parametrize("section", [OpenAISettings, CohereSettings])
def test_the_usual_deadline_lasts_longer_than_a_service_that_is_away_for_half_a_minute(section: type) -> None:
    assert section().deadline_seconds >= 45 + LONGEST_PAUSE_SECONDS
