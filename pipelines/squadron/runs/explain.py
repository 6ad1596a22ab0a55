"""Explaining: why a document is in the index, out of it, stale, or in quarantine."""

from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from squadron.corpus.findings import NO_TEXT
from squadron.corpus.quarantine import QuarantineEntry, listed
from squadron.dataflow.digests import DIGEST_BYTES, hashed, joined_values
from squadron.dataflow.driver import Graph
from squadron.dataflow.vector_space import generation_name, vector_space
from squadron.generations.catalog import Generations
from squadron.settings.registry import load
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable, has_text

DIGEST_DIGITS = 2 * DIGEST_BYTES


class DocumentVersion(TypedDict):
    """A version of the document in the corpus."""

    digest: str
    title: str
    passages: int
    tokens: int
    passage_ids: list[str]


class StoredPassages(TypedDict):
    """What a generation holds of the document, in whatever version."""

    generation: str
    live: bool
    passages: int
    passage_ids: list[str]
    updated_at: str | None


class Explanation(TypedDict):
    """What is known about a document."""

    collection: str
    document_id: str
    state: str
    verdict: str
    live: str | None
    next_generation: str | None
    corpus: list[DocumentVersion]
    generations: list[StoredPassages]
    quarantine: list[QuarantineEntry]
    unread: list[dict[str, Any]]


def explain(settings: Settings, document_id: str) -> Explanation:
    """What the corpus and the store know about a document, and what follows from it, in a sentence (`verdict`).

    `state` is `stored` (as the corpus has it), `partial`, `stale` (the store holds another version), `quarantined`,
    `held` (in the store as it was, while what the corpus has cannot be read or embedded, or may be what cannot),
    `missing`, `expired` (the corpus has it no more), `ambiguous` (the corpus has several versions) or `unknown`.
    `unread` is what cannot be read.
    Reads the corpus up to its end; embeds and changes nothing.
    """
    catalog = Generations.of(settings)
    graph, live = catalog.graph, catalog.live
    versions, unread, unknown = _versions(settings, graph, document_id)
    passages_of = [_cut(graph, document) for document in versions]
    refused = [entry for entry in listed(settings) if entry["document_id"] == document_id]
    target = generation_name(settings.collection, vector_space(settings))
    planned_ids = passages_of[0]["id"].to_pylist() if len(passages_of) == 1 else []
    described = [name for name, record in catalog.items() if record.is_described]  # another is begun, or was
    stored = {name: _rows_of(catalog, name, document_id) for name in described}
    refused_now = any(entry["passage_id"] in planned_ids for entry in refused)
    state = _state(planned_ids, len(versions), stored.get(live or "", []), refused_now, unread or unknown)
    return {
        "collection": settings.collection,
        "document_id": document_id,
        "state": state,
        "verdict": _VERDICTS[state].format(live=live, document=document_id, versions=len(versions)),
        "live": live,
        "next_generation": target if target != live else None,
        "corpus": [
            {
                "digest": passages["id"][0].as_py()[:DIGEST_DIGITS],
                "title": passages["title"][0].as_py(),
                "passages": passages.num_rows,
                "tokens": pc.sum(passages["tokens"]).as_py(),
                "passage_ids": passages["id"].to_pylist(),
            }
            for passages in passages_of
        ],
        "generations": [
            {
                "generation": name,
                "live": name == live,
                "passages": len(ids),
                "passage_ids": ids,
                "updated_at": catalog[name].updated_at,
            }
            for name, ids in stored.items()
        ],
        "quarantine": refused,
        "unread": [vars(item) for item in unread or unknown],
    }


_VERDICTS = {
    "stored": "{document!r} is in {live} as the corpus has it",
    "partial": "some passages of {document!r} are not in {live}: the next ingest writes them",
    "stale": "{live} holds another version of {document!r}: the next ingest replaces it",
    "quarantined": "{document!r} could not be read or embedded; each ingest tries again. The reason is in `quarantine`",
    "held": "{live} holds {document!r} as it was, for what the corpus has cannot be read or embedded, or may be what "
    "cannot: its rows stay",
    "missing": "{document!r} is in the corpus and not in {live}: the next ingest writes it",
    "expired": "the corpus has {document!r} no more: the next ingest deletes it",
    "ambiguous": "the corpus has {versions} versions of {document!r}: an ingest leaves it as it is until there is one",
    "unknown": "neither the corpus nor the store has a document {document!r}; `search --json` shows ids",
}


def _state(
    planned_ids: list[str], versions: int, stored_ids: list[str], refused: bool, unread: list[Unreadable]
) -> str:
    if versions > 1:
        return "ambiguous"
    if not versions and stored_ids and unread:
        return "held"
    if not versions and unread and unread[0].document_id:
        return "quarantined"
    if refused and set(stored_ids) != set(planned_ids):
        return "held" if set(stored_ids) - set(planned_ids) else "quarantined"
    if not versions:
        return "expired" if stored_ids else "unknown"
    if set(stored_ids) == set(planned_ids):
        return "stored"
    if not stored_ids:
        return "missing"
    return "partial" if set(stored_ids) & set(planned_ids) else "stale"


def _versions(
    settings: Settings, graph: Graph, document_id: str
) -> tuple[list[pa.Table], list[Unreadable], list[Unreadable]]:
    """The distinct documents of the corpus with this id, a table of one row each.

    Then what has this id and cannot be read, and the first of what cannot be read and may be any document.
    """
    by_digest: dict[bytes, pa.Table] = {}
    unread, unknown = list[Unreadable](), list[Unreadable]()
    limit, digests_read = settings.source.limit, set[bytes]()
    for rows in load("sources", settings.source.name).read_rows(settings.source):
        if isinstance(rows, Unreadable):
            if rows.document_id is None:
                unknown = unknown or [rows]
            elif rows.document_id == document_id:
                unread.append(rows)
            continue
        blank = pc.and_(pc.equal(rows["document_id"], document_id), pc.invert(has_text(rows["text"])))
        if pc.any(blank).as_py():
            unread.append(Unreadable(f"document {document_id!r}", NO_TEXT, document_id))
        documents = graph.value("documents", rows=rows)
        if limit:  # an ingest reads no further
            digests = documents["digest"].to_pylist()
            new = [row for row, digest in enumerate(digests) if digest not in digests_read][: limit - len(digests_read)]
            digests_read.update(digests[row] for row in new)
            documents = documents.take(pa.array(new, pa.int64()))
        these = documents.filter(pc.equal(documents["document_id"], document_id))
        for row in range(these.num_rows):
            by_digest.setdefault(these["digest"][row].as_py(), these.slice(row, 1))
        if limit and len(digests_read) >= limit:
            break
    return list(by_digest.values()), unread, unknown


def _cut(graph: Graph, document: pa.Table) -> pa.Table:
    graph.kept("tokenizer")
    passages: pa.Table = graph.value("passages", changed_documents=document)
    return passages


def _rows_of(catalog: Generations, generation: str, document_id: str) -> list[str]:
    """Ids in the generation of passages of the document, of whatever version."""
    (identity,) = hashed(joined_values([pa.array([document_id])]), DIGEST_BYTES // 2)
    passage_ids: list[str] = []
    for ids in catalog.graph.value("stored_ids", generation_table=catalog.table(generation)):
        passage_ids += ids.filter(pc.starts_with(ids, identity.hex())).to_pylist()
    return sorted(passage_ids)
