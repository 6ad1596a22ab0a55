"""What documents hold does nothing to a terminal: control characters are shown, and not obeyed."""

import io
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.terminal import tables as terminal
from squadron.terminal.escaping import VisibleFormatter, visible, visible_lines
from tests.whole_runs import write_corpus

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
COMMANDS = ("\x1b", "\x07", "\x9b", "\r", "\x7f", "\u202e", "\u2066", "\u2028")
LISTED = {"first_seen": "then", "last_seen": "now", "run_id": "run", "passage_id": None, "place": None, "row": 3}
LISTED |= {"service": None}


def printed(show: Any, *given: Any) -> str:
    """What a terminal is sent."""
    console = Console(file=io.StringIO(), force_terminal=True, width=400, color_system=None)
    show(*given, console)
    return console.file.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_terminal_would_obey_is_spelled_out(command: str) -> None:
    shown = visible(f"tea{command}coffee")

    assert command not in shown
    assert shown == f"tea{command.encode('unicode_escape').decode()}coffee"


def test_a_text_that_cannot_be_encoded_can_be_printed() -> None:
    assert visible("\ud800") == "\\ud800"


@pytest.mark.parametrize("text", ["Grüße, 世界", "नमस्ते", "می‌خواهم", "👩‍🚀", "a\u00a0b", r"C:\x1b"])
def test_letters_of_all_languages_stay(text: str) -> None:
    assert visible(text) == text


def test_lines_stay_lines_where_they_are_wanted() -> None:
    assert visible_lines("one\ntwo\x1b") == "one\ntwo\\x1b"
    assert visible("one\ntwo") == "one\\ntwo"


def test_matches_quarantine_and_explanations_obey_no_document() -> None:
    match = {"rank": 1, "score": 0.5, "title": f"T{ESCAPE}", "text": f"text {ESCAPE}"}
    entry = {**LISTED, "document_id": f"d{ESCAPE}", "title": None, "reason": f"r{ESCAPE}", "text": f"t{ESCAPE}"}
    explained = {
        "state": "unknown",
        "verdict": "none",
        "corpus": [],
        "generations": [],
        "quarantine": [entry],
        "unread": [],
    }

    shown = printed(terminal.show_matches, f"q{ESCAPE}", [match])
    shown += printed(terminal.show_quarantine, {"collection": "books", "path": "there", "entries": [entry]})
    shown += printed(terminal.show_explanation, explained)

    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert shown.count("\\x1b]0;owned\\x07\\x1b[2J") == 7


def test_a_log_record_is_one_line_and_its_exception_below_it() -> None:
    try:
        raise ValueError(f"no {ESCAPE}")
    except ValueError as error:
        problem = (type(error), error, error.__traceback__)
    record = logging.LogRecord("squadron", logging.WARNING, "", 0, "document %s", (f"d\nerror: {ESCAPE}",), problem)

    first, *rest = VisibleFormatter().format(record).split("\n")

    assert first == "document d\\nerror: \\x1b]0;owned\\x07\\x1b[2J"
    assert rest[0].startswith("Traceback")
    assert "\x1b" not in "".join(rest)


def test_a_search_prints_a_hostile_document_harmlessly_and_its_json_holds_it_as_it_is(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.jsonl", [{"id": "1", "context": f"Tea {ESCAPE} is a drink."}])
    place = {"store.lancedb.uri": tmp_path / "lancedb", "ingest.staging": tmp_path / "staging", "cache.path": "null"}
    values = {**corpus, **place, "collection": "books", "embedding.service": "hashing"}
    settings = [f"--set={name}={value}" for name, value in values.items()]
    assert CliRunner().invoke(app, ["ingest", *settings]).exit_code == 0

    shown = CliRunner().invoke(app, ["search", "Tea", *settings]).stdout
    found = json.loads(CliRunner().invoke(app, ["search", "Tea", "--json", *settings]).stdout)

    assert "\x1b" not in shown
    assert "\\x1b]0;owned\\x07\\x1b[2J" in shown
    assert found["matches"][0]["text"] == f"Tea {ESCAPE} is a drink."


def test_an_error_that_names_a_hostile_text_is_harmless() -> None:
    refused = CliRunner().invoke(app, ["search", "tea", f"--filter={ESCAPE}"])

    assert refused.exit_code == 2
    assert "\x1b[2J" not in refused.stderr
