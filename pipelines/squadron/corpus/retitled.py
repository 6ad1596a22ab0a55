"""Retitled documents: of a corpus without ids, those that have left it and are there under another title.

Without an id a document is its title and text: with another title, or other ends of lines, it is another document, and
the one before has left the corpus. Before a guard takes that for a loss, the texts are compared.
"""

from collections import Counter

import numpy as np
import pyarrow as pa

from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.digests import to_hex
from squadron.dataflow.driver import Graph
from squadron.settings.registry import load
from squadron.settings.schema import Settings

KEY_CHARACTERS = 60
ROWS_AT_ONCE = 5000


def retitled_documents(
    settings: Settings, graph: Graph, generation: str, stored: StoredDocuments, missing: np.ndarray
) -> int:
    """How many of the missing documents, `bool [stored documents]`, the corpus has with the same text; reads it all."""
    texts = _first_passages(graph, generation, stored, missing)
    by_beginning: dict[str, Counter[tuple[str, bool]]] = {}
    for text, is_whole in texts:
        by_beginning.setdefault(text[:KEY_CHARACTERS], Counter())[text, is_whole] += 1
    count = 0
    for rows in load("sources", settings.source.name).read_rows(settings.source):
        if not isinstance(rows, pa.RecordBatch):
            continue
        batch = graph.values(["documents", "stored_positions"], rows=rows, stored_documents=stored)
        new = batch["documents"]["text"].filter(pa.array(batch["stored_positions"] < 0))
        for text in map(_plain, new.to_pylist()):
            candidates = by_beginning.get(text[:KEY_CHARACTERS], Counter())
            match = next((known for known in candidates if candidates[known] and _is_same(text, *known)), None)
            if match:
                candidates[match] -= 1
                count += 1
    return count


def _first_passages(
    graph: Graph, generation: str, stored: StoredDocuments, missing: np.ndarray
) -> list[tuple[str, bool]]:
    """Of each missing document the text of its first passage, and whether it is the only one."""
    ordinals = stored.ids[:, 12].astype(np.uint16) << 8 | stored.ids[:, 13]
    totals = stored.ids[:, 14].astype(np.uint16) << 8 | stored.ids[:, 15]
    chosen = missing[stored.document_of] & (ordinals == 0)
    ids, is_whole = to_hex(stored.ids[chosen]), totals[chosen] == 1
    whole = dict(zip(ids.to_pylist(), is_whole.tolist(), strict=True))
    table, texts = graph.value("generation_table", generation=generation), list[tuple[str, bool]]()
    for start in range(0, len(ids), ROWS_AT_ONCE):
        rows = graph.value("stored_rows", generation_table=table, wanted_ids=ids.slice(start, ROWS_AT_ONCE))
        pairs = zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True)
        texts += [(_plain(text), whole[passage_id]) for passage_id, text in pairs]
    return texts


def _plain(text: str) -> str:
    return " ".join(text.split())


def _is_same(text: str, stored_text: str, is_whole: bool) -> bool:
    return text == stored_text if is_whole else text.startswith(stored_text)
