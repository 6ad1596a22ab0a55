"""Sources: every way to hand over a corpus gives the same rows."""

import bz2
import csv
import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet
import pytest

from squadron.errors import SourceError
from squadron.settings.registry import load
from squadron.settings.schema import ColumnSettings, SourceSettings
from tests.hub import serving

ROWS = [
    {"id": "q1", "title": "Tea", "context": "Tea is a drink.", "question": "What is tea?"},
    {"id": "q2", "title": "Tea", "context": "Tea is a drink.", "question": "Is tea a drink?"},
    {"id": "q3", "title": "Ink", "context": 'It says "ink",\nin two lines.', "question": "What does it say?"},
    {"id": None, "title": "Öl", "context": "Öl schwimmt 🛢️ auf Wasser.", "question": None},
]
EXPECTED = [
    {"document_id": None, "title": r["title"], "text": r["context"], "question_id": r["id"], "question": r["question"]}
    for r in ROWS
]


def read(path, name: str = "files", **columns) -> list[dict]:
    source = SourceSettings(name=name, path=str(path), columns=ColumnSettings(**columns))
    return [row for rows in load("sources", name).read_rows(source) for row in rows.to_pylist()]


def write_parquet(path: Path) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=3)


def write_json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n", encoding="utf-8")


def write_csv(path: Path) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, ["id", "title", "context", "question"])
        table.writeheader()
        table.writerows(ROWS)


def write_squad_json(path: Path) -> None:
    articles: dict[str, dict] = {}
    for row in ROWS:
        paragraphs = articles.setdefault(row["title"], {})
        asked = paragraphs.setdefault(row["context"], [])
        if row["question"]:
            asked.append({"id": row["id"], "question": row["question"], "answers": []})
    data = [
        {"title": title, "paragraphs": [{"context": text, "qas": asked} for text, asked in paragraphs.items()]}
        for title, paragraphs in articles.items()
    ]
    path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")


WRITERS = {"parquet": write_parquet, "jsonl": write_json_lines, "csv": write_csv, "json": write_squad_json}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path, ending):
    WRITERS[ending](tmp_path / f"corpus.{ending}")

    assert read(tmp_path / f"corpus.{ending}") == EXPECTED


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize(("packed", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_packed_files_give_the_same_rows(tmp_path, ending, packed, pack):
    WRITERS[ending](tmp_path / "plain")
    (tmp_path / f"corpus.{ending}.{packed}").write_bytes(pack((tmp_path / "plain").read_bytes()))

    assert read(tmp_path / f"corpus.{ending}.{packed}") == EXPECTED


def test_a_folder_is_read_in_the_order_of_names_and_only_what_is_known(tmp_path):
    for name, text in [
        ("b.jsonl", "second"),
        ("a/z.jsonl", "first"),
        ("notes.txt", "?"),
        ("c.csv", "context\nthird\n"),
    ]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text if "\n" in text else json.dumps({"context": text}))
    for hidden in (".cache/x.jsonl", "_temporary.jsonl"):
        (tmp_path / hidden).parent.mkdir(exist_ok=True)
        (tmp_path / hidden).write_text("not JSON")

    assert [row["text"] for row in read(tmp_path)] == ["first", "second", "third"]


def test_a_glob_is_read_in_the_order_of_names(tmp_path):
    for name in ("train-1.jsonl", "train-0.jsonl", "test-0.jsonl"):
        (tmp_path / name).write_text(json.dumps({"context": name}))

    assert [row["text"] for row in read(tmp_path / "train-*.jsonl")] == ["train-0.jsonl", "train-1.jsonl"]


def test_a_name_that_looks_like_a_glob_is_still_a_file(tmp_path):
    (tmp_path / "corpus [1].jsonl").write_text('{"context": "here"}')

    assert [row["text"] for row in read(tmp_path / "corpus [1].jsonl")] == ["here"]


@pytest.mark.parametrize("pattern", ["", "/corpus.jsonl", "/*.jsonl"])
def test_file_systems_of_fsspec_are_read(tmp_path, pattern):
    write_json_lines(tmp_path / "corpus.jsonl")
    place = f"memory://{tmp_path.name}"  # one memory for all tests of a process
    fsspec.filesystem("memory").pipe(f"/{tmp_path.name}/corpus.jsonl", (tmp_path / "corpus.jsonl").read_bytes())

    assert read(place + pattern) == EXPECTED
    assert read(f"file://{tmp_path}{pattern}") == EXPECTED


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_columns_may_have_other_names(tmp_path, ending):
    row = {
        "body": "Tea is a drink.",
        "head": "Tea",
        "key": 7,
        "asked": "What?",
        "asked_id": 1,
        "author": "A",
        "year": 1,
    }
    path = tmp_path / f"corpus.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist([row]), path)
    elif ending == "jsonl":
        path.write_text(json.dumps(row))
    else:
        path.write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")

    rows = read(
        path,
        **{"text": "body", "title": "head", "document_id": "key", "question": "asked", "question_id": "asked_id"},
        metadata=("author", "year"),
    )

    assert rows == [
        {"document_id": "7", "title": "Tea", "text": "Tea is a drink.", "question_id": "1", "question": "What?"}
        | {"author": "A", "year": "1"}
    ]


def test_titles_and_questions_may_be_absent(tmp_path):
    (tmp_path / "corpus.csv").write_text("context\nTea is a drink.\n")

    (row,) = read(tmp_path / "corpus.csv")

    assert row["text"] == "Tea is a drink."
    assert row["title"] is row["question"] is row["question_id"] is None


def test_a_key_that_few_json_lines_have_is_null_in_the_others(tmp_path):
    lines = [{"context": f"text {n}"} | ({"author": "A"} if n == 2500 else {}) for n in range(3000)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))

    rows = read(tmp_path / "corpus.jsonl", metadata=("author",))

    assert [n for n, row in enumerate(rows) if row["author"]] == [2500]
    assert len(rows) == 3000


def test_json_values_become_text_as_json_writes_them(tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"context": "x", "a": true, "b": 1.5, "c": 12345678901234567890}')

    (row,) = read(tmp_path / "corpus.jsonl", metadata=("a", "b", "c"))

    assert (row["a"], row["b"], row["c"]) == ("true", "1.5", "12345678901234567890")


def test_parquet_may_hold_dictionaries_and_large_strings(tmp_path):
    texts = pa.array(["one", "two", "one"])
    table = pa.table({"context": texts.dictionary_encode(), "title": texts.cast(pa.large_string())})
    pa.parquet.write_table(table, tmp_path / "corpus.parquet")

    assert [(row["text"], row["title"]) for row in read(tmp_path / "corpus.parquet")] == [
        (text, text) for text in ("one", "two", "one")
    ]


def test_questions_that_a_paragraph_does_not_answer_are_left_out(tmp_path):
    impossible = {"id": "q2", "question": "Is ink a drink?", "is_impossible": True, "answers": []}
    possible = {"id": "q1", "question": "What is tea?", "is_impossible": False, "answers": []}
    paragraphs = [
        {"context": "Tea is a drink.", "qas": [impossible, possible]},
        {"context": "Ink is not.", "qas": [impossible]},
        {"context": "Nobody asks.", "qas": []},
    ]
    corpus = {"version": "v2.0", "data": [{"title": "Tea", "paragraphs": paragraphs}]}
    (tmp_path / "v2.json").write_text(json.dumps(corpus))

    rows = [(row["text"], row["question_id"]) for row in read(tmp_path / "v2.json")]

    assert rows == [("Tea is a drink.", "q1"), ("Ink is not.", None), ("Nobody asks.", None)]


def test_batches_have_at_most_a_thousand_rows(tmp_path):
    (tmp_path / "corpus.csv").write_text("context\n" + "word\n" * 2500)
    source = SourceSettings(name="files", path=str(tmp_path / "corpus.csv"))

    assert [rows.num_rows for rows in load("sources", "files").read_rows(source)] == [1000, 1000, 500]


def test_the_sample_has_questions_about_104_documents():
    rows = [
        row for batch in load("sources", "sample").read_rows(SourceSettings(name="sample")) for row in batch.to_pylist()
    ]

    assert len({row["text"] for row in rows}) == 104
    assert len({row["question_id"] for row in rows}) == len(rows) == 351


def test_the_sample_refuses_metadata_that_it_lacks():
    source = SourceSettings(name="sample", columns=ColumnSettings(metadata=("author",)))

    with pytest.raises(SourceError, match=r"sample\.json has no column 'author'"):
        list(load("sources", "sample").read_rows(source))


class TestSquad:
    """The `datasets` library, with a copy of the data set and with a hub. Importing it takes seconds."""

    pytestmark = pytest.mark.xdist_group("datasets")

    @pytest.fixture
    def copy(self, tmp_path) -> Path:
        """A data set in the layout of `rajpurkar/squad` on the hub."""
        (tmp_path / "copy" / "plain_text").mkdir(parents=True)
        (tmp_path / "copy" / "README.md").write_text(
            "---\nconfigs:\n- config_name: plain_text\n  data_files:\n  - split: train\n    path: plain_text/train-*\n"
            "  - split: validation\n    path: plain_text/validation-*\n---\n"
        )
        write_parquet(tmp_path / "copy" / "plain_text" / "train-00000-of-00001.parquet")
        write_parquet(tmp_path / "copy" / "plain_text" / "validation-00000-of-00001.parquet")
        return tmp_path / "copy"

    def test_a_folder_in_the_layout_of_the_hub_is_read(self, copy):
        assert read(copy, "squad") == EXPECTED

    def test_a_changed_copy_is_noticed(self, copy):
        read(copy, "squad")
        changed = pa.table({"context": ["Entirely new."], "title": ["New"]})
        pa.parquet.write_table(changed, copy / "plain_text" / "train-00000-of-00001.parquet")

        assert [row["text"] for row in read(copy, "squad")] == ["Entirely new."]

    def test_a_split_that_does_not_exist_is_refused(self, copy):
        source = SourceSettings(name="squad", path=str(copy), split="trian")

        with pytest.raises(SourceError, match=r"split 'trian' cannot be loaded: .*'train', 'validation'"):
            list(load("sources", "squad").read_rows(source))

    def test_a_broken_copy_is_refused(self, copy):
        path = copy / "plain_text" / "train-00000-of-00001.parquet"
        path.write_bytes(path.read_bytes()[:-100])

        with pytest.raises(SourceError, match=r"cannot be loaded: .*[Pp]arquet"):
            read(copy, "squad")

    def test_a_copy_without_the_text_column_is_refused(self, copy):
        with pytest.raises(SourceError, match="has no column 'content', did you mean 'context'"):
            read(copy, "squad", text="content")

    @pytest.mark.parametrize("name", ["absent", "copy/README.md"])
    def test_what_is_not_a_folder_is_refused(self, tmp_path, copy, name):
        with pytest.raises(SourceError, match="wanted a folder with a copy of the data set, or hf://datasets/ORG/NAME"):
            read(tmp_path / name, "squad")

    def test_the_hub_is_read_and_not_needed_twice(self, tmp_path, copy):
        with serving("rajpurkar/squad", copy) as hub:
            first = in_a_process(tmp_path, None, HF_ENDPOINT=hub)
        second = in_a_process(tmp_path, "hf://datasets/rajpurkar/squad", HF_HUB_OFFLINE="1")

        assert first == second == [row["text"] for row in EXPECTED]

    def test_a_data_set_that_the_hub_does_not_have_is_refused(self, tmp_path, copy):
        with serving("rajpurkar/squad", copy) as hub:
            (message,) = in_a_process(tmp_path, "hf://datasets/nobody/nothing", HF_ENDPOINT=hub)

        assert message.startswith("SourceError: data set 'nobody/nothing', split 'train' cannot be loaded")

    def test_another_copy_of_the_same_name_is_not_taken_for_it(self, tmp_path, copy):
        read(copy, "squad")
        (tmp_path / "other").mkdir()
        other = copy.rename(tmp_path / "other" / "copy")
        changed = pa.table({"context": ["Entirely new."], "title": ["New"]})
        pa.parquet.write_table(changed, other / "plain_text" / "train-00000-of-00001.parquet")

        assert [row["text"] for row in read(other, "squad")] == ["Entirely new."]

    def test_without_network_and_cache_the_ways_out_are_named(self, tmp_path):
        (message,) = in_a_process(tmp_path, None, HF_HUB_OFFLINE="1")

        assert message == (
            "SourceError: the Hugging Face Hub cannot be reached and 'rajpurkar/squad' is not in the local cache: "
            "go online, or set source.path to a local copy, or use source.name=files or sample"
        )


_READ = """
import json, sys
from squadron.errors import SourceError
from squadron.settings.schema import SourceSettings
from squadron.sources.squad_source import read_rows
try:
    source = SourceSettings(path=json.loads(sys.argv[1]))
    texts = [text for rows in read_rows(source) for text in rows["text"].to_pylist()]
except SourceError as error:
    texts = [f"SourceError: {error}"]
print(json.dumps(texts))
"""


def in_a_process(tmp_path: Path, path: str | None, **environment: str) -> list[str]:
    """The texts that a fresh process reads, or the error: the library reads its environment once."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ran = subprocess.run(
        [sys.executable, "-c", _READ, json.dumps(path)],
        env=inherited | {"HF_HOME": str(tmp_path / "huggingface")} | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(ran.stdout)
