"""Changes: the difference between corpus and store, seen through passage ids alone."""

import re
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squadron.dataflow.changes import (
    changed_documents,
    document_digests,
    expired_ids,
    stored_documents,
    stored_positions,
)
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


def changed(digests, stored_ids) -> list[bytes]:
    known = stored(*stored_ids)
    documents = documents_of(digests)
    return changed_documents(documents, stored_positions(document_digests(documents), known), known)[
        "digest"
    ].to_pylist()


def test_into_an_empty_store_everything_goes():
    assert changed(DIGESTS, []) == DIGESTS
    assert changed([], []) == []
    assert expired_ids(stored(), np.zeros(0, bool)).to_pylist() == []


def test_a_stored_document_is_not_touched():
    assert changed(DIGESTS[:2], passage_ids(DIGESTS[0], 3)) == [DIGESTS[1]]


def test_a_document_with_a_passage_missing_is_written_again():
    assert changed(DIGESTS[:1], passage_ids(DIGESTS[0], 3, [0, 2])) == [DIGESTS[0]]


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


@given(
    corpus=st.lists(st.sampled_from(DIGESTS), unique=True), store=STORED, shuffle=st.randoms(), pieces=st.integers(1, 5)
)
def test_the_difference_is_that_of_plain_sets(corpus, store, shuffle, pieces):
    ids = [i for digest, (total, ordinals) in store.items() for i in passage_ids(digest, total, ordinals)]
    shuffle.shuffle(ids)
    known = stored_documents(pa.array(ids[start::pieces], pa.string()) for start in range(pieces))
    documents = documents_of(corpus)
    positions = stored_positions(document_digests(documents), known)
    seen = np.zeros(len(known.digests), bool)
    seen[positions[positions >= 0]] = True

    complete = {digest for digest, (total, ordinals) in store.items() if len(ordinals) == total}
    assert changed_documents(documents, positions, known)["digest"].to_pylist() == [
        digest for digest in corpus if digest not in complete
    ]
    assert set(expired_ids(known, seen).to_pylist()) == {i for i in ids if bytes.fromhex(i[:24]) not in corpus}
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
        assert (changed([one], passage_ids(other, 1)) == []) == (one == other)
