"""The cut cache: no document is cut twice the same way, and none wrongly."""

from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pytest

from squadron.dataflow.cached_cuts import CutCache
from squadron.dataflow.cuts import CUTS_SCHEMA
from squadron.dataflow.driver import Graph
from squadron.settings.layers import Layer, resolve

# Enough of them that some keys end in a zero byte.
DOCUMENTS = pa.table(
    {
        "digest": pa.array([blake2b(b"%d" % n, digest_size=12).digest() for n in range(1500)], pa.binary(12)),
        "document_id": [f"doc {n}" for n in range(1500)],
        "title": [f"title {n % 7}" for n in range(1500)],
        "text": [f"The word {n} " * (1 + n % 50) for n in range(1500)],
    }
)


def opened(folder: Path, **more: str | None) -> CutCache:
    values = {
        "embedding.service": "hashing",
        "passages.max_tokens": "32",
        "cache.path": str(folder),
        "store.lancedb.uri": str(folder / "store"),
    }
    settings = resolve([Layer("test", values | more, Path.cwd())]).settings
    return CutCache(settings, Graph(settings))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.cuts"))


def test_what_was_cut_once_is_not_cut_again(tmp_path: Path) -> None:
    first = opened(tmp_path)
    cuts = first.of(DOCUMENTS)
    first.write()
    again = opened(tmp_path)
    assert cuts.schema == CUTS_SCHEMA
    assert max(len(tokens) for tokens in cuts["tokens"].to_pylist()) > 1
    assert again.of(DOCUMENTS).equals(cuts)
    assert again.of(DOCUMENTS.slice(700, 9)).equals(cuts.slice(700, 9))
    again.write()
    assert len(files(tmp_path)) == 1  # it had nothing to add


def test_documents_that_are_known_and_others_come_in_their_order(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.of(DOCUMENTS.slice(100, 200))
    first.write()
    second = opened(tmp_path)
    assert second.of(DOCUMENTS).equals(opened(tmp_path / "another").of(DOCUMENTS))
    second.write()
    third = opened(tmp_path)
    third.of(DOCUMENTS)
    third.write()
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("setting", ["passages.max_tokens", "passages.overlap_tokens"])
def test_another_way_to_cut_is_another_cache(tmp_path: Path, setting: str) -> None:
    first = opened(tmp_path)
    cuts = first.of(DOCUMENTS)
    first.write()
    other = opened(tmp_path, **{setting: "20" if setting.endswith("max_tokens") else "3"})
    assert not other.of(DOCUMENTS).equals(cuts)


def test_the_same_letters_with_another_title_are_another_document(tmp_path: Path) -> None:
    pair = pa.table(
        {
            "digest": pa.array([b"a" * 12, b"b" * 12], pa.binary(12)),
            "document_id": ["a", "b"],
            "title": ["one two", "one"],
            "text": ["three", " twothree"],
        }
    )
    first = opened(tmp_path)
    first.of(pair.slice(0, 1))
    first.write()
    assert opened(tmp_path).of(pair).equals(opened(tmp_path / "another").of(pair))


@pytest.mark.parametrize("place", [0.001, 0.5, 0.999])
def test_a_damaged_file_is_cut_anew(tmp_path: Path, place: float, caplog: pytest.LogCaptureFixture) -> None:
    first = opened(tmp_path)
    cuts = first.of(DOCUMENTS)
    first.write()
    (file,) = files(tmp_path)
    content = bytearray(file.read_bytes())
    for at in range(int(len(content) * place), min(len(content), int(len(content) * place) + 64)):
        content[at] ^= 0xFF
    file.write_bytes(content)
    assert opened(tmp_path).of(DOCUMENTS).equals(cuts)
    assert "cannot be read and is passed over" in caplog.text


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = opened(tmp_path / "cache", **{"store.lancedb.uri": str(tmp_path / "store")})
    cuts = cache.of(DOCUMENTS)
    (tmp_path / "cache").write_text("not a folder")
    cache.write()
    assert cuts.num_rows == DOCUMENTS.num_rows
    assert "where the documents were cut could not be cached" in caplog.text


def test_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    cache = opened(tmp_path, **{"cache.path": None})
    assert cache.of(DOCUMENTS).equals(opened(tmp_path / "another").of(DOCUMENTS))
    cache.write()
    assert not files(tmp_path)
