"""A handful of texts is one request; many texts use all the requests that may be under way."""

import numpy as np
import pytest

from squadron.embeddings.remote.endpoints import Answer, Limits
from squadron.embeddings.remote.remote_model import FEWEST_TEXTS, RemoteModel

LIMITS = Limits(
    batch_texts=96,
    batch_tokens=100_000,
    concurrency=8,
    requests_per_minute=None,
    texts_per_minute=None,
    tokens_per_minute=None,
    timeout_seconds=60,
    deadline_seconds=60,
)


class Place:
    """An endpoint that answers at once, and remembers the sizes of its requests."""

    name = "here"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def answer(self, texts: list[str], purpose: str, timeout_seconds: float) -> Answer:
        self.sizes.append(len(texts))
        return Answer(np.ones((len(texts), 4), np.float32), len(texts))


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        (1, [1]),
        (3, [3]),  # the canary's
        (FEWEST_TEXTS, [FEWEST_TEXTS]),
        (FEWEST_TEXTS + 1, [1, FEWEST_TEXTS]),
        (20, [4, 8, 8]),
        (128, [16] * 8),
        (960, [96] * 10),
    ],
)
def test_requests_are_as_few_as_leave_no_room_unused(texts: int, sizes: list[int]) -> None:
    place = Place()
    model = RemoteModel("openai", [place], 4, LIMITS, lambda given: [1] * len(given))

    vectors = model.embed([f"text {number}" for number in range(texts)], "document")

    assert sorted(place.sizes) == sizes
    assert vectors.shape == (texts, 4)
