"""The same data asks the same questions in every format: those that SQuAD 2.0 says are not answered are not asked."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.sources.corpora import read, write_lines, write_parquet

Rows = list[dict[str, Any]]


def rows_of(answers_of: Callable[[int], dict[str, Any]]) -> Rows:
    """Six questions about three documents, every other one without an answer."""
    return [
        {"id": f"q{n}", "title": f"T{n // 2}", "context": f"Text {n // 2}.", "question": f"What is {n}?"}
        | answers_of(n)
        for n in range(6)
    ]


def as_squad(n: int) -> dict[str, Any]:
    return {"answers": {"text": ["Text"] if n % 2 else [], "answer_start": [0] if n % 2 else []}}


def as_list(n: int) -> dict[str, Any]:
    return {"answers": [{"text": "Text", "answer_start": 0}] if n % 2 else []}


def as_flag(n: int) -> dict[str, Any]:
    return {"is_impossible": n % 2 == 0}


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


def write_csv_of_json(path: Path, rows: Rows) -> None:
    write_csv(path, [row | ({"answers": json.dumps(row["answers"])} if "answers" in row else {}) for row in rows])


def write_csv_of_arrays(path: Path, rows: Rows) -> None:
    """As pandas writes the answers of a data set."""
    text = "{{'text': array({}, dtype=object), 'answer_start': array([], dtype=int32)}}"
    write_csv(path, [row | ({"answers": text.format(_texts(row))} if "answers" in row else {}) for row in rows])


def _texts(row: dict[str, Any]) -> list[Any]:
    answers = row["answers"]
    return list(answers["text"]) if isinstance(answers, dict) else answers


def write_split(path: Path, rows: Rows) -> None:
    write_parquet(path / "train-00000-of-00001.parquet", rows)


@pytest.mark.parametrize("answers_of", [as_squad, as_list, as_flag])
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.parquet", write_parquet),
        ("a.jsonl", write_lines),
        ("a.csv", write_csv),
        ("b.csv", write_csv_of_json),
        ("c.csv", write_csv_of_arrays),
        ("copy", write_split),
    ],
)
def test_a_question_without_an_answer_is_not_asked_and_its_document_stays(
    tmp_path: Path, name: str, write: Callable[[Path, Rows], Any], answers_of: Callable[[int], dict[str, Any]]
) -> None:
    write(tmp_path / name, rows_of(answers_of))

    rows, unread = read(tmp_path / name, "squad" if name == "copy" else "files")

    assert not unread
    assert [(row["question_id"], row["question"]) for row in rows] == [
        (f"q{n}", f"What is {n}?") if n % 2 else (None, None) for n in range(6)
    ]
    assert {row["text"] for row in rows} == {"Text 0.", "Text 1.", "Text 2."}


@pytest.mark.parametrize("answers", ["[see page 5]", None, 3, {"votes": []}, "{'votes': []}"])
def test_a_column_of_another_meaning_leaves_the_questions_alone(tmp_path: Path, answers: Any) -> None:
    row = {"context": "Tea.", "question": "What is tea?", "answers": answers}
    write_lines(tmp_path / "a.jsonl", [row])
    if not isinstance(answers, dict):
        write_parquet(tmp_path / "a.parquet", [row])

    rows, _ = read(tmp_path)

    assert {row["question"] for row in rows} == {"What is tea?"}
