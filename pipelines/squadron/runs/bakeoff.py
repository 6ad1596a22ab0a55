"""Comparing: the same corpus built with several pairs of embedding service and store, as one table."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from squadron.runs.report import RunReport
from squadron.settings.schema import Settings

# Column of the table -> how its values are written.
COLUMNS = {
    "recall@10": ".3f",
    "MRR@10": ".3f",
    "nDCG@10": ".3f",
    "passages": ",d",
    "passages/s": ",.1f",
    "seconds": ",.1f",
    "cost in $": ",.4f",
    "billed tokens": ",d",
    "vector width": "d",
}


@dataclass(frozen=True)
class Pair:
    """An embedding service and a store, by their names in the registry."""

    embedding: str
    store: str

    @property
    def name(self) -> str:
        """As the table and the task show it."""
        return f"{self.embedding} x {self.store}"

    @property
    def collection(self) -> str:
        """The collection it is built into, which is nobody else's."""
        return f"bakeoff_{self.embedding}_{self.store}"[:48]


def pairs(embeddings: Iterable[str], stores: Sequence[str]) -> list[Pair]:
    """Each service with each store."""
    return [Pair(embedding, store) for embedding in embeddings for store in stores]


def settings_of_pair(settings: Settings, pair: Pair, bakeoff: str) -> Settings:
    """Settings that build a generation from nothing: no cache, and a variant that no other bake-off has.

    Whatever it turns out to be worth, it goes live in its own collection, and the one before the last is collected.
    """
    values = settings.model_dump()
    values["collection"] = pair.collection
    values["cache"]["path"] = None
    values["embedding"] |= {"service": pair.embedding, "variant": bakeoff}
    values["embedding"]["openai"]["mode"] = "sync"
    values["store"]["name"] = pair.store
    values["gate"] |= {"min_recall_at_10": 0.0, "max_drop": 1.0}
    values["retention"]["generations"] = 2
    return Settings.model_validate(values)


Row = dict[str, JsonValue]
"""A row of the table: `pair`, the columns of COLUMNS, `error`. None: not known."""


def measured(pair: Pair, report: RunReport, dimension: int | None) -> Row:
    """The row of a pair whose run gave this report (`report.run_report`). Null: not known."""
    metrics, billed = report["metrics"], report["billed_tokens"]
    cost = report["billed_cost"]
    return {
        "pair": pair.name,
        "recall@10": metrics["recall_at_10"],
        "MRR@10": metrics["mrr_at_10"],
        "nDCG@10": metrics["ndcg_at_10"],
        "passages": report["counts"]["passages"],
        "passages/s": report["passages_per_second"],
        "seconds": sum(report["seconds"].values()),
        "cost in $": report["cost"] if cost is None else cost,
        "billed tokens": report["estimated_tokens"] if billed is None else billed,
        "vector width": dimension,
        "error": None,
    }


def failed(pair: Pair, error: BaseException) -> Row:
    """The row of a pair whose run failed."""
    return {"pair": pair.name, **dict.fromkeys(COLUMNS), "error": f"{type(error).__name__}: {error}"}


def table(rows: Iterable[Row]) -> str:
    """The rows as a table in Markdown, the best answers first, failures last."""
    ordered = sorted(rows, key=lambda row: (row["error"] is not None, -_recall(row), str(row["pair"])))
    lines = [["pair", *COLUMNS, "error"], ["---", *("---:" for _ in COLUMNS), "---"]]
    lines += [[str(row["pair"]), *_shown(row), _cell(str(row["error"] or ""))] for row in ordered]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _recall(row: Row) -> float:
    recall = row["recall@10"]
    return recall if isinstance(recall, float) else 0.0


def _shown(row: Row) -> Iterable[str]:
    return ("" if row[name] is None else format(row[name], form) for name, form in COLUMNS.items())


def _cell(text: str) -> str:
    """A text that does not end its cell."""
    return " ".join(text.split()).replace("|", "\\|")
