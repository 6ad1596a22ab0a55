"""The contract of the embedding services, as a suite: a service's test file subclasses it.

    @pytest.fixture
    def service(): return Service(new_embeddings, NewSettings(...))

    class TestNewService(EmbeddingContract):
        never = {"network": "it runs in this process"}

What a service cannot do is declared in `never`, with the reason. Such a test then asserts what the service does
instead, and ends as an expected failure that prints the reason.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from squadron.dataflow.cuts import cuts
from squadron.dataflow.passages import embedding_texts, passages
from squadron.embeddings.tokenization import token_counts
from tests.embeddings.subject import Service, numbered

ABILITIES = {
    "network": "requests can fail: the service keeps the contract of tests.embeddings.remote_contract too",
    "questions": "questions are embedded differently from passages",
}
UNUSUAL = {
    "one letter": "a",
    "white space within": "a\n\n\tb \u00a0 c",
    "emoji": "🦆🏳️\u200d🌈👩\u200d👩\u200d👧",
    "right to left": "مرحبا بالعالم שלום",
    "no spaces": "十九世紀における鉄道の急速な発展",
    "combining": "e\u0301 \u0915\u094d\u0937\u093f",
    "control": "a\x00b\x1fc\x7f",
    "special tokens": "<|endoftext|> [CLS] [SEP] <s> </s> [UNK]",
    "quotes": "\"quoted\" 'text' \\ back {0} %s {title}",
    "a long word": "x" * 300,
}


class EmbeddingContract:
    """What every embedding service does."""

    never: ClassVar[Mapping[str, str]] = {}
    """Abilities, of those above, that the service lacks, each with the reason."""
    tolerance: ClassVar[float] = 1e-6
    """How much a vector may depend on what is embedded beside it."""
    other_spaces: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Settings that make other vectors, by what is other about them."""
    same_space: ClassVar[Mapping[str, Any]] = {}
    """Settings that change how the work is done, but not the vectors."""

    def test_what_it_never_does_is_declared_in_the_words_of_the_contract(self) -> None:
        assert set(self.never) <= set(ABILITIES)

    def test_a_service_with_a_network_keeps_the_contract_of_remote_ones(self) -> None:
        remote = any(base.__name__ == "RemoteContract" for base in type(self).__mro__)
        assert remote == ("network" not in self.never)
        if not remote:
            pytest.xfail(self.never["network"])

    def test_vectors_are_float32_of_the_dimension(self, service: Service) -> None:
        for vectors in (service.passages(["one", "two"]), service.questions(["one", "two"])):
            assert vectors.dtype == np.float32
            assert vectors.shape == (2, service.dimension)

    def test_vectors_are_of_unit_length(self, service: Service) -> None:
        texts = numbered(5)
        for vectors in (service.passages(texts), service.questions(texts)):
            assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_no_texts_have_no_vectors(self, service: Service) -> None:
        for vectors in (service.passages([]), service.questions([])):
            assert vectors.dtype == np.float32
            assert vectors.shape == (0, service.dimension)

    def test_different_texts_have_different_vectors(self, service: Service) -> None:
        vectors = service.passages(numbered(30))
        nearness = vectors @ vectors.T - 2 * np.eye(30)
        assert nearness.max() < 0.99999

    def test_order_is_kept(self, service: Service) -> None:
        texts = numbered(40)
        vectors, turned = service.passages(texts), service.passages([*texts[3:], *texts[:3]])
        assert np.abs(np.roll(vectors, -3, axis=0) - turned).max() <= self.tolerance

    def test_a_text_has_the_same_vector_alone_and_among_others(self, service: Service) -> None:
        texts = numbered(40)
        together = service.passages(texts)
        alone = np.concatenate([service.passages([texts[row]]) for row in (0, 17, 39)])
        assert np.abs(together[[0, 17, 39]] - alone).max() <= self.tolerance

    def test_equal_texts_have_equal_vectors(self, service: Service) -> None:
        vectors = service.passages(["again", "between", "again"])
        assert np.array_equal(vectors[0], vectors[2])

    def test_a_question_is_nearest_to_the_text_that_answers_it(self, service: Service) -> None:
        texts = [
            "The lighthouse keeper lit the lamp every evening at dusk.",
            "Bread rises because yeast turns sugar into gas.",
            "The river floods the valley each spring when the snow melts.",
        ]
        asked = ["Why does bread rise with yeast?", "When does the river flood the valley?"]
        nearness = service.questions(asked) @ service.passages(texts).T
        assert nearness.argmax(axis=1).tolist() == [1, 2]

    def test_questions_are_embedded_as_the_service_wants_them(self, service: Service) -> None:
        texts = ["what is a duck"]
        alike = np.abs(service.passages(texts) - service.questions(texts)).max() <= self.tolerance
        if reason := self.never.get("questions"):
            assert alike
            pytest.xfail(reason)
        assert not alike

    @pytest.mark.parametrize("text", UNUSUAL.values(), ids=UNUSUAL.keys())
    def test_unusual_texts_have_vectors(self, service: Service, text: str) -> None:
        vectors = service.passages([text, "usual"])
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)

    def test_the_last_word_of_a_text_at_the_limit_counts(self, service: Service) -> None:
        tokenizer, limit = service.value("tokenizer"), service.value("model_max_tokens")
        (hundred,) = token_counts(tokenizer, [" duck" * 100])
        start = "duck" + " duck" * int((limit - 10) * 100 / hundred)
        texts = [start + " swims", start + " flies"]
        assert limit - 20 <= max(token_counts(tokenizer, texts)) <= limit
        first, second = service.passages(texts)
        assert not np.array_equal(first, second)

    def test_a_long_document_is_cut_to_what_the_service_reads(self, service: Service) -> None:
        limit = service.value("model_max_tokens")
        sentences = [
            f"In the year {year} the river rose — naïve folk said „nie wieder“ 🦆. " for year in range(limit // 6)
        ]
        document = pa.table(
            {"digest": pa.array([b"d" * 12]), "document_id": ["d"], "title": ["River"], "text": ["".join(sentences)]}
        )
        places = cuts(document, service.value("tokenizer"), "{title}\n{text}", limit, overlap_tokens=8)
        cut = passages(document, places, "{title}\n{text}")
        assert cut.num_rows > 1
        assert max(cut["tokens"].to_pylist()) <= limit
        vectors = service.passages(embedding_texts(cut, "{title}\n{text}"))
        assert np.isfinite(vectors).all()

    def test_the_tokenizer_counts_more_for_more(self, service: Service) -> None:
        short, long = token_counts(service.value("tokenizer"), ["one word", "one word and then some more of them"])
        assert 2 <= short < long

    def test_the_vector_space_is_told_in_words(self, service: Service) -> None:
        space = service.value("vector_space")
        assert all(isinstance(part, str) for pair in space.items() for part in pair)
        assert space["service"] in service.module.__name__

    def test_another_model_or_width_is_another_vector_space(self, service: Service) -> None:
        spaces = [service.having(**changes).value("vector_space") for changes in self.other_spaces.values()]
        spaces.append(service.value("vector_space"))
        assert len({str(sorted(space.items())) for space in spaces}) == len(self.other_spaces) + 1

    def test_how_the_work_is_done_does_not_change_the_vector_space(self, service: Service) -> None:
        assert service.having(**self.same_space).value("vector_space") == service.value("vector_space")

    def test_where_the_model_runs_is_told(self, service: Service) -> None:
        assert service.value("device").strip()
