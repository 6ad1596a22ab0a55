"""Whole runs for tests: a corpus in a file, all steps one after the other, and what they leave behind."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from squadron.dataflow.driver import shared_graph
from squadron.generations.catalog import Generations
from squadron.generations.live_pointer import Promotion
from squadron.runs.evaluate import evaluate
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.promote import promote
from squadron.runs.results import Evaluation, Finished, Ingested, Plan
from squadron.settings.schema import Settings


@dataclass(frozen=True)
class Run:
    """What the steps of a run returned."""

    plan: Plan
    ingested: Ingested
    finished: Finished
    evaluation: Evaluation
    promotion: Promotion


def run(settings: Settings, run_id: str = "run") -> Run:
    """All steps, with what one hands to the next made plain in between, as Airflow does."""
    plan = Plan.of(json.loads(json.dumps(asdict(plan_run(settings, run_id)))))
    ingested = sum((ingest_shard(settings, plan, shard) for shard in plan.shards), Ingested())
    plan = replace(plan, shards=[])
    finished = finish(settings, plan, ingested.quarantined)
    evaluation = evaluate(settings, plan)
    return Run(plan, ingested, finished, evaluation, promote(settings, plan, evaluation))


def numbered(*numbers: int, **changes: Any) -> list[dict[str, Any]]:
    """Documents with an id, a title, a text of their own words and a question in these words."""
    return [
        {
            "id": f"doc-{n:05d}",
            "title": f"Number {n}",
            "context": f"The thing called name{n} has the size{n} and the colour{n}. It is one of many.",
            "question": f"Which thing has the size{n} and the colour{n}?",
        }
        | changes
        for n in numbers
    ]


def write_corpus(path: Path, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """JSON lines, and the settings that read them with explicit document ids."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"source.name": "files", "source.path": str(path), "source.columns.document_id": "id"}


def requests_of_few(
    collection: str, url: str, folder: Path, rows: Iterable[dict[str, Any]], texts: int, shard_passages: int
) -> dict[str, Any]:
    """Params of a run whose shards are requests of so many texts to a server of OpenAI's kind, one after the other.

    Staging, cache and index are below the folder, which all workers share.
    """
    return {
        "collection": collection,
        **write_corpus(folder / "corpus.jsonl", rows),
        "evaluation.max_questions": 4,
        "embedding.service": "openai",
        "embedding.openai.base_url": f"{url}/v1",
        "embedding.openai.dimensions": 256,
        "embedding.openai.batch_texts": texts,
        "embedding.openai.concurrency": 1,
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "ingest.shard_passages": shard_passages,
        "cache.path": str(folder / "cache"),
    }


def stored_rows(settings: Settings, generation: str) -> dict[str, dict[str, Any]]:
    """What a generation holds, by passage id, vectors rounded."""
    graph = shared_graph(settings)
    table = graph.value("generation_table", generation=generation, metadata_columns=())
    rows = table.to_arrow().to_pylist()
    found = {row["id"]: row | {"vector": [round(x, 4) for x in row["vector"]]} for row in rows}
    assert len(found) == len(rows), "an id is stored twice"
    return found


def live(settings: Settings) -> str | None:
    """The generation that is live."""
    return Generations.of(settings).live


def tree(*folders: Path) -> dict[str, str]:
    """Every file and folder below, folders with an empty digest."""
    return {
        str(path): blake2b(path.read_bytes()).hexdigest() if path.is_file() else ""
        for folder in folders
        for path in [folder, *folder.rglob("*")]
        if path.exists()
    }
