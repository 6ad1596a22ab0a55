"""The command line: `squadron`. Results go to stdout, progress and logs to stderr.

Exit codes: 0 done, 1 failed, 2 bad usage or settings, 130 interrupted (Ctrl-C).
"""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squadron.process.heap import collect_rarely
from squadron.terminal import interruption
from squadron.terminal.escaping import VisibleFormatter, visible_lines

if TYPE_CHECKING:
    from squadron.settings.layers import Resolved

app = typer.Typer(
    help="Keep a vector index in step with a corpus.",
    no_args_is_help=True,
    add_completion=False,  # a shell completes one word, not `squadron`
    pretty_exceptions_enable=False,
)
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a setting, e.g. source.limit=500; several, with spaces between."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


@app.command()
def ingest(assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Plan, embed, write, index, evaluate and promote, in this process."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.runs import whole_run
        from squadron.terminal import tables as terminal

        _tell_locations(resolved)
        with terminal.shown_progress():
            report = whole_run.ingest(resolved.settings)
        _print(report, as_json, terminal.show_report)


@app.command()
def plan(assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Say what an ingest would change, and what it would cost; write nothing."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.runs import report
        from squadron.runs.plan import plan_run
        from squadron.terminal import tables as terminal

        with terminal.shown_progress():
            planned = plan_run(resolved.settings, "dry-run", dry_run=True)
        planned_changes = report.plan_report(planned, resolved.settings.embedding.in_batches)
        _print(planned_changes, as_json, terminal.show_plan)


@app.command()
def search(
    question: Annotated[str, typer.Argument(help="What to look for, in plain words.")],
    top_k: Annotated[int, typer.Option(min=1, help="How many passages.")] = 5,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="COLUMN=VALUE", help="Only passages with this value.")
    ] = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Search the live generation."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.generations import search as searching
        from squadron.terminal import tables as terminal

        matches = searching.search(resolved.settings, question, top_k, _filter(filters or []))
        result = {"collection": resolved.settings.collection, "question": question, "matches": matches}
        _print(result, as_json, lambda _, console: terminal.show_matches(question, matches, console))


@app.command()
def evaluate(assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Measure the live generation on the corpus's own questions."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.generations.measuring import measure
        from squadron.terminal import tables as terminal

        with terminal.shown_progress():
            measured = measure(resolved.settings)
        _print(measured, as_json, terminal.show_metrics)


@app.command()
def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Write and delete what is needed.")] = False,
    vectors: Annotated[int | None, typer.Option(min=0, help="How many vectors are made anew and compared.")] = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Compare the live generation with the corpus, row by row. Fails when they differ and could not be repaired."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.runs.verify import verify
        from squadron.terminal import tables as terminal

        if repair:
            _tell_locations(resolved)
        with terminal.shown_progress():
            report = verify(resolved.settings, repair, vectors)
        _print(report, as_json, terminal.show_verification)
    if report["counts"]["left"] or not (report["sound"] or repair):
        raise typer.Exit(1)


@app.command()
def explain(
    document_id: Annotated[str, typer.Argument(help="The document's id, as the corpus has it.")],
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Say why a document is in the index, out of it, stale, or in quarantine."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.runs.explain import explain
        from squadron.terminal import tables as terminal

        _print(explain(resolved.settings, document_id), as_json, terminal.show_explanation)


@app.command()
def generations(assignments: Assignments = None, as_json: AsJson = False) -> None:
    """List the collection's generations."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.generations import catalog
        from squadron.terminal import tables as terminal

        listed = {"collection": resolved.settings.collection, "generations": catalog.generations(resolved.settings)}
        _print(listed, as_json, terminal.show_generations)


@app.command()
def promote(
    generation: Annotated[str, typer.Argument(help="Its name, as `squadron generations` prints it.")],
    force: Annotated[bool, typer.Option("--force", help="Also one that no run has finished.")] = False,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Make a generation live."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.generations import live_pointer
        from squadron.terminal import tables as terminal

        _tell_locations(resolved)
        moved = live_pointer.promote_generation(resolved.settings, generation, force)
        _print(vars(moved), as_json, terminal.show_promotion)


@app.command()
def rollback(assignments: Assignments = None, as_json: AsJson = False) -> None:
    """Make the generation live that was live before; once more, the one before it."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.generations import live_pointer
        from squadron.terminal import tables as terminal

        _tell_locations(resolved)
        moved = live_pointer.rollback(resolved.settings)
        _print(vars(moved), as_json, terminal.show_promotion)


@app.command()
def quarantine(assignments: Assignments = None, as_json: AsJson = False) -> None:
    """List what could not be read or embedded, and why."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.corpus import quarantine as quarantines
        from squadron.terminal import tables as terminal

        settings = resolved.settings
        entries = quarantines.listed(settings)
        listed = {"collection": settings.collection, "path": quarantines.folder(settings), "entries": entries}
        _print(listed, as_json, terminal.show_quarantine)


@app.command()
def cache(
    evict_older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Remove the vectors that were written longer ago.")
    ] = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Say how much the embedding cache holds; remove what is old."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.cache import files as caches
        from squadron.errors import SettingsError
        from squadron.terminal import tables as terminal

        path = resolved.settings.cache.path
        if path is None:
            raise SettingsError("cache.path is null: there is no cache. Set it to a folder or a URI")
        if evict_older_than is not None:
            _tell_locations(resolved)
        evicted = None if evict_older_than is None else caches.evict(path, evict_older_than)
        _print({**caches.cache_size(path), "evicted": evicted}, as_json, terminal.show_cache)


@app.command()
def config(
    prefix: Annotated[
        str, typer.Argument(show_default=False, help="With --explain: a section, such as store.lancedb, or a setting.")
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Say what each setting is, whatever its value.")] = False,
    assignments: Assignments = None,
    as_json: AsJson = False,
) -> None:
    """Show every setting, and where its value comes from."""
    with _refusals():
        if explain:
            _explain_settings(prefix, as_json)
            return
        if prefix:
            from squadron.errors import SettingsError

            raise SettingsError(f"{prefix!r} goes with --explain: say squadron config --explain {prefix}")
        resolved = _resolved(assignments)
        from squadron.terminal import tables as terminal

        shown = {"settings": resolved.settings.model_dump(mode="json"), "origins": dict(resolved.all_origins())}
        _print(shown, as_json, lambda _, console: terminal.show_lines(resolved.lines(), console))


@app.command()
def graph(
    file: Annotated[Path, typer.Argument(help="Where to draw it: a name that ends in .svg, .png or .pdf.")],
    assignments: Assignments = None,
) -> None:
    """Draw the Hamilton graph of the configured backends into FILE (.svg, .png or .pdf)."""
    with _refusals():
        resolved = _resolved(assignments)
        from squadron.dataflow import driver as graphs

        graphs.draw(resolved.settings, file)
        typer.echo(f"{file} shows the graph", err=True)


def _explain_settings(prefix: str, as_json: bool) -> None:
    from squadron.terminal import tables as terminal
    from squadron.terminal.settings_page import explanations

    chosen = explanations(prefix)
    lines = [line for setting in chosen for line in setting.lines()]
    shown = {"settings": [vars(setting) for setting in chosen]}
    _print(shown, as_json, lambda _, console: terminal.show_lines(lines, console))


def _resolved(assignments: list[str] | None) -> "Resolved":
    from squadron.settings import assignments as command_line
    from squadron.settings import layers as resolution

    given = resolution.Layer("--set", command_line.assignments(assignments or []), Path.cwd())
    return resolution.resolve([given])


def _tell_locations(resolved: "Resolved") -> None:
    """Say on stderr where a command writes: what the default places are depends on where it runs."""
    from squadron.settings.locations import written_locations

    typer.echo(visible_lines(written_locations(resolved.settings)), err=True)


def _filter(pairs: list[str]) -> dict[str, str]:
    """`["title=[sic]"]` as `{"title": "[sic]"}`: unlike a setting's, a value is the text that stands there."""
    from squadron.errors import SettingsError

    chosen = {}
    for pair in pairs:
        column, equals, value = pair.partition("=")
        if not equals or not column.strip():
            raise SettingsError(f"--filter {pair!r} is not COLUMN=VALUE: write for example title=Rome")
        chosen[column.strip()] = value
    return chosen


def _print(result: Mapping[str, Any], as_json: bool, show: Any) -> None:
    if as_json:
        json.dump(result, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
        return
    from rich.console import Console

    show(result, Console())


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn what Squadron refuses, and Ctrl-C, into one line on stderr and an exit code."""
    from squadron.errors import SettingsError, SquadronError

    if logging.lastResort:  # what is told outside of a progress
        logging.lastResort.setFormatter(VisibleFormatter())
    try:
        yield
    except SquadronError as error:
        typer.secho(f"error: {visible_lines(str(error))}", fg="red", err=True)
        raise typer.Exit(2 if isinstance(error, SettingsError) else 1) from error
    except KeyboardInterrupt:
        interruption.end_process()


def main() -> None:
    """The console script."""
    collect_rarely()
    app(prog_name="squadron")


if __name__ == "__main__":
    main()
