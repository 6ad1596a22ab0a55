"""Changes: the difference between corpus and store, seen through passage ids alone."""

import re
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squadron.dataflow.changes import (
    changed,
    changed_digests,
    changed_documents,
    corpus_documents,
    corpus_questions,
    document_digests,
    expired_ids,
    first_appearances,
    in_corpus,
    seen_positions,
    stored_documents,
    stored_positions,
)
from squadron.dataflow.digests import DigestSet
from squadron.errors import StoreError

# Few digests, so that they meet; with zero bytes at the end, which numpy takes for padding.
DIGESTS = [
    *(bytes(11) + bytes([last]) for last in (0, 1, 255)),
    *(
        b"\x01" + bytes(11),
        b"\x01\x00\x01" + bytes(9),
        b"\xff" * 11 + b"\x00",
        b"\xff" * 12,
        b"abcdef\x00\x00\x00\x00\x00\x00",
    ),
]
# A document's digest, how many passages it has, and which of them are stored.
STORED = st.dictionaries(
    st.sampled_from(DIGESTS), st.integers(1, 4).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1))))
)


def passage_ids(digest: bytes, total: int, ordinals=None) -> list[str]:
    ordinals = range(total) if ordinals is None else ordinals
    return [f"{digest.hex()}{ordinal:04x}{total:04x}" for ordinal in ordinals]


def documents_of(digests) -> pa.Table:
    return pa.table({"digest": pa.array(list(digests), pa.binary(12))})


def stored(*ids: str):
    return stored_documents([pa.array(ids, pa.string())])


class Pass:
    """A pass over a corpus, batch by batch, with what it has met so far."""

    def __init__(self, stored_ids, repeated=(), limit: int | None = None) -> None:
        self.stored = stored(*stored_ids)
        self.seen = np.zeros(len(self.stored.digests), bool)
        self.changes = DigestSet()
        self.repeated = document_digests(documents_of(repeated)).identities()
        self.room = limit

    def batch(self, digests, questions: pa.Table | None = None) -> dict[str, list]:
        """What the nodes say about a batch of distinct documents."""
        documents = documents_of(digests).append_column(
            "document_id", pa.array([d.hex() for d in digests], pa.string())
        )
        own = document_digests(documents)
        positions = stored_positions(own, self.stored)
        first = first_appearances(own, positions, self.seen, self.changes, self.repeated)
        chosen = in_corpus(own, first, self.repeated, self.room)
        new = changed(positions, self.stored, first, chosen)
        shown = seen_positions(positions, first, chosen)
        self.seen[shown] = True
        self.changes.add(changed_digests(own, new))
        if self.room is not None:
            self.room -= int((first & chosen).sum())
        held = corpus_documents(documents, chosen)
        empty = pa.table({"document_id": pa.array([], pa.string())})
        return {
            "changed": changed_documents(documents, new)["digest"].to_pylist(),
            "corpus": held["digest"].to_pylist(),
            "asked": corpus_questions(empty if questions is None else questions, chosen, held).to_pylist(),
        }


def changes_of(digests, stored_ids) -> list[bytes]:
    return Pass(stored_ids).batch(digests)["changed"]


def test_into_an_empty_store_everything_goes():
    assert changes_of(DIGESTS, []) == DIGESTS
    assert changes_of([], []) == []
    assert expired_ids(stored(), np.zeros(0, bool)).to_pylist() == []


def test_a_stored_document_is_not_touched():
    assert changes_of(DIGESTS[:2], passage_ids(DIGESTS[0], 3)) == [DIGESTS[1]]


def test_a_document_with_a_passage_missing_is_written_again():
    assert changes_of(DIGESTS[:1], passage_ids(DIGESTS[0], 3, [0, 2])) == [DIGESTS[0]]


def test_what_the_corpus_does_not_hold_expires():
    known = stored(*passage_ids(DIGESTS[3], 2), *passage_ids(DIGESTS[4], 1))
    seen = np.array([digest == DIGESTS[4] for digest in (DIGESTS[3], DIGESTS[4])])

    assert expired_ids(known, seen).to_pylist() == passage_ids(DIGESTS[3], 2)


def test_a_document_may_have_as_many_passages_as_can_be_numbered():
    ids = passage_ids(DIGESTS[0], 0xFFFF)

    assert stored(*ids).complete.tolist() == [True]
    assert stored(*ids[:-1]).complete.tolist() == [False]


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "7",
        "g" * 32,
        "a" * 31,
        "a" * 33,
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "é" * 32,
        "A" * 32,
        "a" * 31 + " ",
        "a" * 32 + "\n",
    ],
)
def test_a_foreign_id_is_refused(foreign):
    with pytest.raises(
        StoreError, match=f"{re.escape(repr(foreign))}.*choose another collection, or remove those rows"
    ):
        stored(*passage_ids(DIGESTS[0], 2), foreign, *passage_ids(DIGESTS[1], 1))


def test_foreign_ids_that_add_up_to_the_right_length_are_refused():
    with pytest.raises(StoreError, match="is not a passage id"):
        stored("a" * 30, "b" * 34)


def test_a_document_of_an_earlier_batch_is_not_changed_again():
    a_pass = Pass(passage_ids(DIGESTS[0], 2, [1]))

    assert a_pass.batch(DIGESTS[:2])["changed"] == DIGESTS[:2]
    assert a_pass.batch(DIGESTS[:3])["changed"] == [DIGESTS[2]]
    assert a_pass.seen.tolist() == [True]


def test_a_document_that_is_left_out_is_neither_changed_nor_seen_nor_asked_about():
    a_pass = Pass(passage_ids(DIGESTS[3], 1), repeated=[DIGESTS[3], DIGESTS[5]])
    questions = pa.table({"document_id": [DIGESTS[number].hex() for number in (3, 4, 5)]})

    batch = a_pass.batch([DIGESTS[3], DIGESTS[4], DIGESTS[5]], questions)

    assert batch["changed"] == batch["corpus"] == [DIGESTS[4]]
    assert batch["asked"] == [{"document_id": DIGESTS[4].hex()}]
    assert a_pass.seen.tolist() == [False]


def test_a_batch_ends_with_the_last_document_that_the_limit_allows():
    a_pass = Pass(passage_ids(DIGESTS[0], 1), limit=3)

    assert a_pass.batch(DIGESTS[:2])["corpus"] == DIGESTS[:2]
    batch = a_pass.batch([DIGESTS[1], DIGESTS[2], DIGESTS[0], DIGESTS[3]])
    assert batch["corpus"] == [DIGESTS[1], DIGESTS[2]]
    assert batch["changed"] == [DIGESTS[2]]
    assert a_pass.room == 0


@given(
    corpus=st.lists(st.sampled_from(DIGESTS), unique=True), store=STORED, shuffle=st.randoms(), pieces=st.integers(1, 5)
)
def test_the_difference_is_that_of_plain_sets(corpus, store, shuffle, pieces):
    ids = [i for digest, (total, ordinals) in store.items() for i in passage_ids(digest, total, ordinals)]
    shuffle.shuffle(ids)
    known = stored_documents(pa.array(ids[start::pieces], pa.string()) for start in range(pieces))
    a_pass = Pass(ids)
    new = [digest for start in range(pieces) for digest in a_pass.batch(corpus[start::pieces])["changed"]]

    complete = {digest for digest, (total, ordinals) in store.items() if len(ordinals) == total}
    assert sorted(new) == sorted(set(corpus) - complete)
    assert set(expired_ids(known, a_pass.seen).to_pylist()) == {i for i in ids if bytes.fromhex(i[:24]) not in corpus}
    assert len(known.ids) == len(ids)


@given(st.lists(st.binary(min_size=12, max_size=12), unique=True, max_size=40), st.data())
def test_any_digest_is_found_where_it_is_stored(digests, data):
    kept = data.draw(st.sets(st.sampled_from(digests))) if digests else set()
    known = stored(*(i for digest in kept for i in passage_ids(digest, 1)))

    found = stored_positions(document_digests(documents_of(digests)), known) >= 0

    assert found.tolist() == [digest in kept for digest in digests]


def test_digests_that_differ_in_zero_bytes_alone_are_told_apart():
    alike = [bytes(left) + b"\x07" + bytes(11 - left) for left in range(12)] + [bytes(12)]

    for one, other in product(alike, alike):
        assert (changes_of([one], passage_ids(other, 1)) == []) == (one == other)
