"""Staged passages: what of the corpus the store lacks, cut, and waiting in staging to be embedded."""

from contextlib import closing
from dataclasses import dataclass

import numpy as np

from squadron.corpus.findings import Findings
from squadron.corpus.reading import Corpus
from squadron.dataflow.cached_cuts import CutCache
from squadron.dataflow.cached_vectors import opened_cache
from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.driver import Graph
from squadron.settings.schema import Settings
from squadron.sources.rows import Unreadable
from squadron.staging.shard_writer import ShardWriter


@dataclass(frozen=True)
class Staged:
    """What is to be embedded."""

    passages: int = 0
    tokens: int = 0
    estimated_tokens: int = 0
    """Tokens of the passages whose vectors are not in the cache."""


def staged_passages(settings: Settings, graph: Graph, corpus: Corpus, writer: ShardWriter | None) -> Staged:
    """Cut the changed documents; the passages wait in the writer's shards if there is one."""
    cache, cuts, staged = opened_cache(settings, graph), CutCache(settings, graph), Staged()
    with closing(corpus.changes()) as changes:
        for documents in changes:
            if not documents.num_rows:
                continue
            values = graph.values(["passages", "embedding_texts"], changed_documents=documents, cuts=cuts.of(documents))
            cut, texts = values["passages"], values["embedding_texts"]
            corpus.note_cut(cut)
            tokens = cut["tokens"].to_numpy()
            paid = ~cache.contains(texts) if cache else np.ones(len(tokens), bool)
            if writer and not staged.estimated_tokens and paid.any():
                graph.begin_model()  # it is ready when the plan is
            staged = Staged(
                staged.passages + cut.num_rows,
                staged.tokens + int(tokens.sum()),
                staged.estimated_tokens + int(tokens[paid].sum()),
            )
            if writer:
                writer.add(cut)
    if writer:
        cuts.write()
    return staged


def compared_corpus(
    settings: Settings, graph: Graph, stored: StoredDocuments, run_id: str, writer: ShardWriter | None
) -> tuple[Corpus, Staged, ShardWriter | None]:
    """The corpus after a pass over it, with what is to be embedded waiting in the writer's shards."""
    findings = Findings(settings, run_id, "rows")
    corpus = Corpus(settings, graph, stored, findings)
    staged = staged_passages(settings, graph, corpus, writer)
    repeated: list[Unreadable] = []
    while more := corpus.repeated_documents():  # all over again, without them; under a limit it meets others then
        repeated += more
        findings.clear()
        corpus = Corpus(settings, graph, stored, findings, repeated)
        writer = writer and writer.restarted()
        staged = staged_passages(settings, graph, corpus, writer)
    if writer and (corpus.documents or corpus.unread.items):
        findings.write()  # before a guard counts them: then a person wants to see them
    return corpus, staged, writer
