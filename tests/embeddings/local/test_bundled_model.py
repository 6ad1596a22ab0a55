"""The bundled sentence-transformers model keeps the contract, and gives the vectors it always gave."""

import numpy as np
import pytest

from squadron.embeddings import sentence_transformers_embeddings
from squadron.settings.embedding_sections import SentenceTransformersSettings
from tests.embeddings.contract import EmbeddingContract
from tests.embeddings.subject import Service

pytestmark = pytest.mark.xdist_group("torch")

GOLDEN = {
    "The lighthouse keeper lit the lamp at dusk.": (0.007464, 0.056702, 0.015379, 0.046086, -0.035841, -0.014915),
    "十九世紀における鉄道の急速な発展": (-0.018206, 0.194728, -0.010651, -0.027166, 0.02946, 0.009592),
}
"""Text -> the first values of its vector, computed with sentence-transformers in float32."""


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(sentence_transformers_embeddings, SentenceTransformersSettings(device="cpu", precision="fp32"))


class TestBundledModel(EmbeddingContract):
    never = {
        "network": "the model is in this process: there is no request that could fail",
        "questions": "all-MiniLM-L6-v2 has no prompts",
    }
    tolerance = 1e-4
    other_spaces = {"prompt": {"passage_prompt": "passage: "}, "precision": {"precision": "bf16"}}
    same_space = {"batch_tokens": 512, "query_prompt": "query: "}


@pytest.mark.parametrize(("text", "values"), GOLDEN.items(), ids=["English", "Japanese"])
def test_vectors_are_those_that_the_model_always_gave(service: Service, text: str, values: tuple[float, ...]) -> None:
    vector = service.passages([text])[0]
    assert np.allclose(vector[: len(values)], values, atol=1e-4)


def test_the_model_needs_no_hub_and_reads_256_tokens(service: Service) -> None:
    assert service.value("model_max_tokens") == 256
    assert service.dimension == 384
