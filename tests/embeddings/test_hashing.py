"""Hashing keeps the contract."""

import pytest

from squadron.embeddings import hashing_embeddings
from squadron.settings.embedding_sections import HashingSettings
from tests.embeddings.contract import EmbeddingContract
from tests.embeddings.subject import Service


@pytest.fixture
def service() -> Service:
    return Service(hashing_embeddings, HashingSettings())


class TestHashing(EmbeddingContract):
    never = {
        "network": "it is a function of this process: there is no request that could fail",
        "questions": "a question is words, as a passage is",
    }
    other_spaces = {"width": {"dimension": 512}}
    same_space = {"max_tokens": 100}
