"""Digests: of texts as Python would make them, kept in sorted runs, and found where they are."""

from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squadron.dataflow.digests import Digests, DigestSet, from_hex, hashed, joined_values, to_hex

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
# Few values, so that they meet, and agree in some bytes only.
DIGEST = st.lists(st.sampled_from([0, 1, 255]), min_size=12, max_size=12).map(bytes)


def digests(values: list[bytes]) -> Digests:
    return Digests.of_column(pa.chunked_array([pa.array(values, pa.binary(12))]))


@given(st.lists(st.tuples(TEXT, TEXT | st.none()), max_size=8), st.sampled_from([pa.string(), pa.large_string()]))
def test_rows_are_joined_and_hashed_as_python_would(rows, text):
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in (0, 1)]
    joined = ["".join(f"{len(value)}:{value}" for value in (one, other or "")) for one, other in rows]

    found = joined_values(columns)

    assert found.to_pylist() == joined
    assert hashed(found.cast(text), 12) == [blake2b(row.encode(), digest_size=12).digest() for row in joined]


def test_a_slice_is_hashed_as_its_values_are():
    texts = pa.array(["one", "two", "", "four"])

    assert hashed(texts.slice(1, 2), 8) == hashed(pa.array(["two", ""]), 8)


@given(st.lists(st.lists(DIGEST, max_size=9), max_size=9), st.lists(DIGEST, max_size=20))
def test_a_set_of_digests_is_a_set(batches, asked):
    kept, known = DigestSet(), set[bytes]()
    for batch in batches:
        new = sorted(set(batch) - known, reverse=True)
        kept.add(digests(new))
        known |= set(new)

    assert len(kept) == len(known)
    assert kept.contains(digests(asked)).tolist() == [digest in known for digest in asked]
    assert sorted(kept.everything().high.tolist()) == sorted(int.from_bytes(digest[:8]) for digest in known)


def test_versions_of_a_document_have_one_identity():
    one, other, another = digests([b"abcdef" + bytes(6), b"abcdef" + b"x" * 6, b"abcdeg" + bytes(6)]).identities()

    assert one == other != another


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=20), st.integers(0, 5))
def test_hex_digits_are_read_and_written(values, start):
    ids = pa.array([value.hex() for value in values], pa.string()).slice(start)

    raw, foreign = from_hex(ids, 32)

    assert foreign == -1
    assert [row.tobytes() for row in raw] == values[start:]
    assert to_hex(raw).to_pylist() == ids.to_pylist()


@pytest.mark.parametrize("foreign", [None, "", "0" * 31, "0" * 33, "x" + "0" * 31, "A" + "0" * 31, "é" * 16])
def test_the_first_value_that_is_no_hex_is_told(foreign):
    raw, position = from_hex(pa.array(["ab" * 16, "cd" * 16, foreign, "ef" * 16, "zz"]), 32)

    assert position == 2
    assert np.array_equal(raw[:, 0], [0xAB, 0xCD])
