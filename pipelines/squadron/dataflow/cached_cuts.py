"""Cut cache: where documents were cut before, so that none becomes tokens again only to be counted.

Beside the vectors (`cache.path`), and kept like them: each plan that cut something adds one file, which is never
changed. The pages of a file bear checksums; a file that was damaged is passed over, and its documents are cut anew.
"""

import logging
import uuid
from functools import cached_property
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

from squadron.cache.files import BROKEN, CUTS_ENDING, listed, write_table
from squadron.cache.keys import TEXT_BYTES, key_positions, text_digests
from squadron.dataflow.cuts import CUTS_SCHEMA
from squadron.dataflow.driver import Graph
from squadron.errors import StoreError
from squadron.settings.schema import Settings

log = logging.getLogger(__name__)

_CUTTING = f"1, semantic-text-splitter {version('semantic-text-splitter')}"
"""Changes when the same document would be cut otherwise."""


class CutCache:
    """The cuts of the configured way to cut: tokenizer, template and sizes. Nothing is read before it is asked."""

    def __init__(self, settings: Settings, graph: Graph) -> None:
        self._path = settings.cache.path
        self._graph = graph
        self._overlap = settings.passages.overlap_tokens
        self._added: list[pa.Table] = []

    def of(self, documents: pa.Table) -> pa.Table:
        """The documents' cuts (`CUTS_SCHEMA`); the graph makes those that are not known."""
        self._graph.kept("tokenizer")
        if not self._path:
            return self._graph.value("cuts", changed_documents=documents)
        keys, (kept, cuts) = _keys(documents), self._kept
        positions, known = key_positions(keys, kept)
        if known.all():
            return cuts.take(pa.array(positions))
        made = self._graph.value("cuts", changed_documents=documents.filter(pa.array(~known)))
        self._added.append(made.append_column("key", _as_column(keys[~known])))
        positions[~known] = cuts.num_rows + np.arange(made.num_rows)
        return pa.concat_tables([cuts, made]).take(pa.array(positions)) if known.any() else made

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """The file system and the folder."""
        filesystem, root = fsspec.core.url_to_fs(self._path)
        found = self._graph.values(["text_template", "passage_tokens"])
        tokenizer = self._graph.kept("tokenizer").to_str()
        way = (_CUTTING, tokenizer, found["text_template"], found["passage_tokens"], self._overlap)
        digest = blake2b(repr(way).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return filesystem, f"{root.rstrip('/')}/{digest}"

    @cached_property
    def _kept(self) -> tuple[np.ndarray, pa.Table]:
        """The keys, `S16 [n]`, ascending, and the cuts in their order."""
        filesystem, folder = self._place
        tables = [found for name in listed(filesystem, folder, CUTS_ENDING) if (found := _read(filesystem, name))]
        if not tables:
            return np.empty(0, f"S{TEXT_BYTES}"), CUTS_SCHEMA.empty_table()
        table = pa.concat_tables(tables)
        keys = np.frombuffer(b"".join(table["key"].to_pylist()), f"S{TEXT_BYTES}")
        order = np.argsort(keys, kind="stable")
        return keys[order], table.drop_columns(["key"]).take(pa.array(order)).combine_chunks()

    def write(self) -> None:
        """Keep what was cut since the cache was opened. Where that cannot be, the next plan cuts it again."""
        if self._added:
            filesystem, folder = self._place
            try:
                write_table(filesystem, f"{folder}/{uuid.uuid4().hex}{CUTS_ENDING}", pa.concat_tables(self._added))
            except StoreError as error:
                log.warning("where the documents were cut is not kept: %s", error)
            self._added = []


def _read(filesystem: Any, name: str) -> pa.Table | None:
    try:
        with filesystem.open(name, "rb") as file:
            return pyarrow.parquet.read_table(file, page_checksum_verification=True)
    except FileNotFoundError:  # since it was listed: it was old
        return None
    except BROKEN as error:
        log.warning("the cache file %s cannot be read and is passed over: %s", name, error)
        return None


def _keys(documents: pa.Table) -> np.ndarray:
    """`S16 [documents]`: digests of title and text."""
    rows = zip(documents["title"].to_pylist(), documents["text"].to_pylist(), strict=True)
    return text_digests(f"{len(title)} {title}{text}" for title, text in rows)


def _as_column(keys: np.ndarray) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(TEXT_BYTES), len(keys), [None, pa.py_buffer(keys.tobytes())])
