"""Terminal: what a person at a terminal sees of a run; all of it goes to stderr, but for results."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from squadron.terminal.escaping import VisibleFormatter, visible

if TYPE_CHECKING:
    from squadron.generations.measuring import Measurement
    from squadron.generations.search import MatchedPassage
    from squadron.runs.explain import Explanation
    from squadron.runs.report import PlanReport, RunReport
    from squadron.runs.verify import VerifyReport

METRICS = {
    "recall_at_1": "recall@1",
    "recall_at_5": "recall@5",
    "recall_at_10": "recall@10",
    "mrr_at_10": "MRR@10",
    "ndcg_at_10": "nDCG@10",
}


@contextmanager
def shown_progress() -> Iterator[None]:
    """Show logs and the progress of stages on stderr: bars on a terminal, a line now and then elsewhere."""
    console = Console(stderr=True)
    package, stages = logging.getLogger("squadron"), logging.getLogger("squadron.process.progress")
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(VisibleFormatter())
    bars = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    drawing = _Bars(bars) if console.is_terminal else handler
    package.addHandler(handler)
    package.setLevel(logging.WARNING if console.is_terminal else logging.INFO)
    stages.addHandler(drawing)
    stages.setLevel(logging.DEBUG if console.is_terminal else logging.INFO)
    stages.propagate = False
    try:
        with bars:
            yield
    finally:
        package.removeHandler(handler)
        stages.removeHandler(drawing)
        stages.propagate = True


def show_report(report: "RunReport", console: Console) -> None:
    """Print the report of a run for a person."""
    counts, seconds = report["counts"], report["seconds"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    counted = [f"{counts[name]:,} {name}" for name in ("documents", "passages", "unchanged")]
    table.add_row("corpus", ", ".join(counted) + _unless_zero(counts["quarantined"], "quarantined"))
    changed = [f"{counts[name]:,} {name}" for name in ("embedded", "cached", "written", "deleted")]
    table.add_row("changed", ", ".join(changed))
    table.add_row("seconds", ", ".join(f"{stage} {taken:.1f}" for stage, taken in seconds.items()))
    if report["passages_per_second"]:
        speed = f"{report['passages_per_second']:,.1f} passages/s on {report['device']}"
        estimate = f"{_at_most(report)}{report['tokens']:,} tokens, {_dollars(report['cost'])}"
        table.add_row("speed", f"{speed}, {estimate}")
    if report["endpoints"]:
        table.add_row("service", _billed(report))
    figures = [f"{label} {report['metrics'][name]:.3f}" for name, label in METRICS.items() if report["metrics"][name]]
    kind = "of the corpus's questions" if report["asked"] == "questions" else "probes, sentences of its own"
    asked = f" on {report['questions']:,} {kind}" if figures else "not measured"
    table.add_row("quality", ", ".join(figures) + asked + (", as measured before" if report["reused"] else ""))
    table.add_row("index", report["index"])
    table.add_row("live", f"[bold]{report['live']}[/bold] in {report['collection']}" + _moved(report))
    console.print(table)
    for name in report["collected"]:
        console.print(f"[dim]{name} was dropped (retention.generations)[/dim]")
    if report["held_back"]:
        console.print(_held_back(report["held_back"]), highlight=False, soft_wrap=True)
    if report["held"]:
        console.print(f"[yellow]not promoted:[/yellow] {report['held']}")
    if sync := report["live_sync"]:
        done = f"{sync['written']:,} written, {sync['deleted']:,} deleted"
        console.print(f"[dim]{sync['generation']}, which readers see, was brought in step: {done}[/dim]")


def show_matches(question: str, matches: "list[MatchedPassage]", console: Console, width: int = 160) -> None:
    """Print what a search found."""
    console.print(Text(visible(question), "bold"))
    for match in matches:
        text = " ".join(match["text"].split())
        shortened = text if len(text) <= width else text[: width - 1] + "…"
        line = f"{match['rank']:>3}  {match['score']:.3f}  {match['title']}: {shortened}"
        console.print(visible(line), markup=False, highlight=False, soft_wrap=True)
    if not matches:
        console.print("nothing was found: the live generation has no such passages", style="dim", highlight=False)


def show_plan(report: "PlanReport", console: Console) -> None:
    """Print what an ingest would do."""
    counts = report["counts"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("corpus", f"{counts['documents']:,} documents, {counts['passages']:,} passages")
    todo = f"{counts['to_embed']:,} to embed and write, {counts['to_delete']:,} to delete"
    table.add_row(
        "changes", f"{todo}, {counts['unchanged']:,} unchanged{_unless_zero(counts['quarantined'], 'quarantined')}"
    )
    batches = " in batches, within a day" if report["in_batches"] else ""
    cost = f"{_at_most(report)}{report['estimated_tokens']:,} tokens to embed, {_dollars(report['cost'])}{batches}"
    table.add_row("cost", cost)
    beside = f"built beside {report['live']}" if report["live"] else "the first"
    new = "synced in place" if report["generation"] == report["live"] else beside
    table.add_row("generation", f"{report['generation']}, {new}")
    console.print(table)
    if report["held_back"]:
        console.print(_held_back(report["held_back"]), highlight=False, soft_wrap=True)


def show_metrics(measured: "Measurement", console: Console) -> None:
    """Print how well a generation answers."""
    figures = [f"{METRICS[name]} {figure:.3f}" for name, figure in measured["metrics"].items()]
    console.print(f"{measured['generation']}: {', '.join(figures)} on {measured['questions']:,} {measured['asked']}")


def show_generations(listed: dict[str, Any], console: Console) -> None:
    """Print the generations of a collection."""
    if not listed["generations"]:
        console.print(f"{listed['collection']} has no generation yet: ingest first", highlight=False)
        return
    table = Table("generation", "", "rows", "recall@10", "created (UTC)", box=None, padding=(0, 2, 0, 0))
    for row in listed["generations"]:
        recall = row.get("metrics", {}).get("recall_at_10")
        state = "live" if row["live"] else "rolled back" if row.get("rolled_back_at") else ""
        created = row.get("created_at", "")[:16].replace("T", " ")
        table.add_row(
            row["generation"], state, f"{row.get('rows', 0):,}", "" if recall is None else f"{recall:.3f}", created
        )
    console.print(table)
    for row in listed["generations"]:
        space = ", ".join(f"{name}={value}" for name, value in row.get("vector_space", {}).items() if value)
        line = f"{row['generation']}: {space or 'not described'}"
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def show_promotion(moved: dict[str, Any], console: Console) -> None:
    """Print which generation is live now."""
    after = f"; {moved['previous']} was before" if moved["previous"] else ""
    console.print(f"{moved['live']} is live{after}{'; ' + moved['held'] if moved['held'] else ''}")


def show_quarantine(listed: dict[str, Any], console: Console) -> None:
    """Print what could not be read or embedded, what was seen last first."""
    if not listed["entries"]:
        console.print(f"{listed['collection']}: nothing is in quarantine")
        return
    table = Table("document", "passage", "reason", "since", "last seen", "text", box=None, padding=(0, 2, 0, 0))
    for column in table.columns:
        column.overflow = "fold"  # a place is of no use without its end
    for entry in listed["entries"]:
        document = entry["document_id"] or entry["title"] or ""
        place = entry["passage_id"] or entry["place"] or f"row {entry['row']:,}"
        reason = f"{entry['service']}: {entry['reason']}" if entry["service"] else entry["reason"]
        text = " ".join((entry["text"] or "").split())[:60]
        row = (document, place, reason, entry["first_seen"], entry["last_seen"], text)
        table.add_row(*(Text(visible(cell)) for cell in row))
    console.print(table)
    told = f"{len(listed['entries']):,} in {listed['path']}; every run tries them again"
    console.print(told, style="dim", markup=False, highlight=False, soft_wrap=True)


def show_cache(cache: dict[str, Any], console: Console) -> None:
    """Print how much the embedding cache holds."""
    oldest = "" if cache["oldest_days"] is None else f", the oldest {cache['oldest_days']:,.1f} days old"
    evicted = "" if cache["evicted"] is None else f"; {cache['evicted']:,} files were removed"
    size = f"{cache['bytes'] / 1e6:,.1f} MB in {cache['files']:,} files of {cache['spaces']:,} vector spaces"
    console.print(f"{cache['path']}: {size}{oldest}{evicted}", markup=False, highlight=False, soft_wrap=True)


def show_verification(report: "VerifyReport", console: Console) -> None:
    """Print how the live generation compares with the corpus."""
    counts = report["counts"]
    checked = f"{counts['passages']:,} passages compared, {counts['vectors_checked']:,} vectors made anew"
    wrong = ", ".join(f"{counts[name]:,} {name}" for name in ("missing", "extra", "altered") if counts[name])
    mended = f"; {counts['written']:,} written, {counts['deleted']:,} deleted" if report["repaired"] and wrong else ""
    mended += f", {counts['left']:,} not, for the service refuses them" if counts["left"] else ""
    verdict = "[green]as it should be[/green]" if report["sound"] else f"[red]{wrong}[/red]{mended}"
    if counts["held_back"]:
        console.print(_held_back(counts["held_back"]), highlight=False, soft_wrap=True)
    console.print(f"{report['generation']}: {checked}: {verdict}", highlight=False)
    for kind, ids in report["examples"].items():
        for key in ids:
            console.print(f"  {kind} {key}", style="dim")
    for row in report["generations"]:
        if (row["missing_documents"] or row["extra_documents"]) and not row["live"]:
            drift = f"lacks {row['missing_documents']:,} documents of the corpus, has {row['extra_documents']:,} others"
            console.print(f"{row['generation']} (not live): {drift}", style="dim")


def show_explanation(explanation: "Explanation", console: Console) -> None:
    """Print what is known of a document."""
    console.print(f"{explanation['state']}: {explanation['verdict']}", markup=False, highlight=False, soft_wrap=True)
    for version in explanation["corpus"]:
        cut = f"{version['passages']} passages, {version['tokens']} tokens, digest {version['digest']}"
        console.print(f"  corpus: {version['title']!r}, {cut}", markup=False, highlight=False)
    for row in explanation["generations"]:
        live = " (live)" if row["live"] else ""
        console.print(f"  {row['generation']}{live}: {row['passages']} passages", markup=False, highlight=False)
    for entry in explanation["quarantine"]:
        since = f"since {entry['first_seen']}, last in run {entry['run_id']}"
        line = visible(f"  quarantine: {entry['reason']} ({since})")
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for item in explanation["unread"]:
        line = visible(f"  unread: {item['place']}: {item['reason']}")
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def show_lines(lines: Iterable[str], console: Console) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


class _Bars(logging.Handler):
    """Draws the debug records of `squadron.process.progress`, a bar for each stage."""

    def __init__(self, bars: Progress) -> None:
        super().__init__(logging.DEBUG)
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        stage, done = vars(record)["stage"], vars(record)["done"]
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=vars(record)["total"], unit="", rate="")
        rate = record.getMessage().rpartition(", ")[2] if done else ""
        self._bars.update(self._tasks[stage], completed=done, unit=vars(record)["unit"], rate=rate)


def _held_back(passages: int) -> str:
    stay = f"{passages:,} passages that the corpus does not show stay, for some of it cannot be read or embedded"
    return f"[yellow]held back:[/yellow] {stay}: see `squadron quarantine`"


def _unless_zero(count: int, name: str) -> str:
    return f", {count:,} {name}" if count else ""


def _billed(report: "RunReport") -> str:
    """How the endpoints of a remote service did, and what it says it billed."""
    hosts = [
        f"{host} answered {did['answered']:,} requests" + (f" and failed {did['failed']:,}" if did["failed"] else "")
        for host, did in report["endpoints"].items()
    ]
    if report["billed_tokens"]:
        hosts.append(f"billed {report['billed_tokens']:,} tokens, {_dollars(report['billed_cost'])}")
    return "; ".join(hosts)


def _at_most(report: Mapping[str, Any]) -> str:
    """Before an estimate that counts bytes, because the tokenizer cannot be had."""
    return "at most " if report["estimates_are_upper_bounds"] else ""


def _dollars(cost: float | None) -> str:
    return "price not known" if cost is None else f"{cost:.4g} USD"


def _moved(report: "RunReport") -> str:
    if not report["promoted"]:
        return ""
    return f", promoted; {report['previous']} before it" if report["previous"] else ", promoted"
