"""Bad input: each is refused by a message to act on, and nothing is written, in an empty store or in a full one.

What is bad in a few rows alone goes into quarantine (test_unreadable.py); here it is more than the guard allows.
"""

import gzip
import json
import resource
from pathlib import Path
from shutil import copytree

import pyarrow as pa
import pyarrow.parquet
import pytest

from squadron.errors import GuardError, SettingsError, SourceError, StoreError
from squadron.runs.plan import plan_run
from squadron.settings.layers import Layer, resolve
from tests.whole_runs import live, numbered, run, stored_rows, tree, write_corpus


@pytest.fixture(scope="module")
def full_store(tmp_path_factory) -> Path:
    """A store that holds a corpus of twenty documents."""
    folder = tmp_path_factory.mktemp("full")
    places = {"store.lancedb.uri": "lancedb", "ingest.staging": "staging", "cache.path": "cache"}
    values = {"collection": "books", "embedding.service": "hashing"} | places
    corpus = write_corpus(folder / "corpus.jsonl", numbered(*range(20)))
    run(resolve([Layer("test", values | corpus, folder)]).settings)
    return folder / "lancedb"


@pytest.fixture(params=["empty", "full"])
def refused(request, settings_with, tmp_path):
    """Plans a corpus that must be refused; returns the message. Before it, the store is empty or holds a corpus."""
    stores = [tmp_path / "lancedb", tmp_path / "staging"]
    if request.param == "full":
        copytree(request.getfixturevalue("full_store"), tmp_path / "lancedb")

    def planned(path: str | Path, error: type[Exception] = SourceError, **changes) -> str:
        before = tree(*stores)
        with pytest.raises(error) as caught:
            values = {"source.name": "files", "source.path": str(path), "quarantine.path": "quarantine"}
            plan_run(settings_with(**values | changes), "run")
        files = {path: digest for path, digest in tree(*stores).items() if digest}
        assert files == {path: digest for path, digest in before.items() if digest}
        assert not list((tmp_path / "staging").glob("*/*"))
        return str(caught.value)

    return planned


def test_a_missing_file_is_refused(refused, tmp_path):
    message = refused(tmp_path / "absent.jsonl")

    assert message.startswith(
        f"source.path '{tmp_path}/absent.jsonl' matches no file: wanted a file, a glob, or a folder"
    )


def test_a_glob_that_matches_nothing_is_refused(refused, tmp_path):
    assert f"'{tmp_path}/*.parquet' matches no file" in refused(tmp_path / "*.parquet")


def test_a_folder_without_known_files_is_refused(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("text")

    assert (
        "matches no file: wanted a file, a glob, or a folder of files whose names end in .parquet, .jsonl"
        in refused(tmp_path / "folder")
    )


@pytest.mark.parametrize("name", ["corpus.txt", "corpus", "corpus.jsonl.zst", "corpus.xlsx"])
def test_an_unknown_file_ending_is_refused(refused, tmp_path, name):
    (tmp_path / name).write_text("text")

    assert f"{name} is of no known format: wanted a name that ends in .parquet, .jsonl" in refused(tmp_path / name)


def test_an_unknown_protocol_is_refused(refused):
    assert "source.path 'ftps3://bucket/x.jsonl' cannot be opened" in refused("ftps3://bucket/x.jsonl")


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_file_without_the_text_column_is_refused(refused, tmp_path, ending):
    path = tmp_path / f"corpus.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(pa.table({"id": ["1"], "contexts": ["Tea."]}), path)
    else:
        path.write_text('{"id": "1", "contexts": "Tea."}' if ending == "jsonl" else "id,contexts\n1,Tea.\n")

    assert refused(path) == (
        f"{path} has no column 'context', did you mean 'contexts'? Its columns are: id, contexts. "
        "Say with source.columns.text which one to read"
    )


def test_a_configured_column_that_no_line_has_is_refused(refused, tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"context": "Tea."}\n' * 1200)

    message = refused(tmp_path / "corpus.jsonl", **{"source.columns.metadata": ["author"]})

    assert message.endswith(
        "has no column 'author'. Its columns are: context. Say with source.columns.metadata which one to read"
    )


@pytest.mark.parametrize("role", ["title", "question", "question_id", "document_id"])
def test_an_absent_column_that_the_settings_name_is_refused(refused, tmp_path, role):
    (tmp_path / "corpus.csv").write_text("context\nTea.\n")

    assert f"Say with source.columns.{role} which" in refused(
        tmp_path / "corpus.csv", **{f"source.columns.{role}": "mine"}
    )


@pytest.mark.parametrize(
    ("value", "kind"), [(1, "int64"), (["a"], "list<"), ({"a": "b"}, "struct<"), (b"\xff", "binary"), (1.5, "double")]
)
def test_a_text_column_that_holds_no_text_is_refused(refused, tmp_path, value, kind):
    pa.parquet.write_table(pa.table({"context": [value]}), tmp_path / "corpus.parquet")

    message = refused(tmp_path / "corpus.parquet")

    assert f"column 'context' holds {kind}" in message
    assert message.endswith("wanted text: set source.columns.text to another column")


@pytest.mark.parametrize(("value", "kind"), [(5, "int"), (["a"], "list"), ({"a": "b"}, "dict"), (True, "bool")])
def test_a_text_that_is_none_is_refused_with_its_line(refused, tmp_path, value, kind):
    lines = [{"context": "Tea."}, {"context": value}]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))

    assert refused(tmp_path / "corpus.jsonl", GuardError) == (
        "1 rows cannot be read, or have no text, beside 1 that can and do (50.0%): guard.max_quarantined_fraction "
        f"allows 5.0%. First of what cannot be read: {tmp_path}/corpus.jsonl, line 2: 'context' holds {kind}, "
        "wanted text: set source.columns.text to another column. Mend the corpus, or raise that for this run"
    )


def test_a_corpus_of_texts_that_are_none_is_refused(refused, tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"context": 5}\n' * 2000)

    message = refused(tmp_path / "corpus.jsonl")

    assert message.startswith(
        f"nothing of the corpus {tmp_path}/corpus.jsonl can be read: {tmp_path}/corpus.jsonl, line 1:"
    )
    assert message.endswith("set source.columns.text to another column; .... Nothing was changed")


def test_metadata_that_is_a_list_is_refused(refused, tmp_path):
    pa.parquet.write_table(pa.table({"context": ["Tea."], "tags": [["a", "b"]]}), tmp_path / "corpus.parquet")

    message = refused(tmp_path / "corpus.parquet", **{"source.columns.metadata": ["tags"]})

    assert "column 'tags' holds list<element: string>, wanted text: set source.columns.metadata" in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("corpus.jsonl", ""),
        ("corpus.jsonl", "\n\n"),
        ("corpus.csv", ""),
        ("corpus.csv", "id,title,context\n"),
        ("corpus.csv", "id,title,context"),
        ("corpus.json", '{"data": []}'),
        ("corpus.json", "[]"),
    ],
)
def test_an_empty_corpus_is_refused(refused, tmp_path, name, content):
    (tmp_path / name).write_text(content)

    assert refused(tmp_path / name) == (
        f"the corpus {tmp_path}/{name} has no rows: nothing was changed. Check source.columns.text"
    )


def test_a_parquet_file_without_rows_is_refused(refused, tmp_path):
    pa.parquet.write_table(pa.table({"context": pa.array([], pa.string())}), tmp_path / "corpus.parquet")

    assert "has no rows" in refused(tmp_path / "corpus.parquet")


def test_a_corpus_of_blank_texts_is_refused(refused, tmp_path):
    (tmp_path / "corpus.csv").write_text('title,context\nTea,\nInk,"  "\n')

    assert "has 2 rows, none of them with a text: nothing was changed" in refused(tmp_path / "corpus.csv")


def test_different_texts_under_one_id_are_refused(refused, tmp_path):
    rows = [*numbered(1), *numbered(1, context="Other."), *numbered(2), *numbered(2, context="Other.")]

    message = refused(**_as_path(write_corpus(tmp_path / "corpus.jsonl", rows)))

    assert message == (
        f"nothing of the corpus {tmp_path}/corpus.jsonl can be read: "
        "document 'doc-00001': stands for 2 different texts, titles or metadata: ids must be unique; "
        "document 'doc-00002': stands for 2 different texts, titles or metadata: ids must be unique. "
        "Nothing was changed"
    )


@pytest.mark.parametrize("nothing", [None, "", " "])
def test_a_document_without_an_id_is_refused_with_its_row(refused, tmp_path, nothing):
    rows = [*numbered(*range(2345)), *numbered(1, id=nothing)]
    changes = _as_path(write_corpus(tmp_path / "corpus.jsonl", rows))

    message = refused(error=GuardError, **changes, **{"guard.max_quarantined_fraction": 0})

    assert f"{tmp_path}/corpus.jsonl, line 2346: no id in column 'id': give every document one, or unset" in message


def test_bytes_that_are_not_utf8_are_refused_with_their_line(refused, tmp_path):
    (tmp_path / "corpus.jsonl").write_bytes(b'{"context": "Tea."}\n\n{"context": "caf\xe9"}\n')
    (tmp_path / "corpus.csv").write_bytes(b"context\nTea.\ncaf\xe9\n")

    message = refused(tmp_path / "corpus.jsonl", GuardError)

    assert f"{tmp_path}/corpus.jsonl, line 3: byte 17 of the line is not UTF-8: convert the file" in message
    assert "corpus.csv, line 3: byte 4 of the line is not UTF-8" in refused(tmp_path / "corpus.csv", GuardError)


def test_a_header_that_is_not_utf8_is_refused(refused, tmp_path):
    (tmp_path / "corpus.csv").write_bytes(b"context,caf\xe9\nTea.,1\n")

    assert "corpus.csv: the header is not UTF-8, byte 12 of the line" in refused(tmp_path / "corpus.csv")


def test_parquet_strings_that_are_not_utf8_are_refused(refused, tmp_path):
    latin = pa.array([b"Tea.", "café".encode("latin-1")], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, latin.buffers())
    pa.parquet.write_table(pa.table({"context": text}), tmp_path / "corpus.parquet")

    message = refused(tmp_path / "corpus.parquet", GuardError)

    assert f"{tmp_path}/corpus.parquet, row 2: column 'context' holds bytes that are not UTF-8" in message


def test_half_a_surrogate_pair_is_refused_with_its_line(refused, tmp_path):
    (tmp_path / "corpus.jsonl").write_text('{"context": "Tea."}\n{"context": "\\ud83d"}\n')

    message = refused(tmp_path / "corpus.jsonl", GuardError)

    assert "corpus.jsonl, line 2: 'context' holds half of a surrogate pair" in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"context": "Tea."', "not JSON: "),
        ('{"context": "Tea." "x"}', "not JSON: "),
        ('["Tea."]', "wanted a JSON object, found list"),
        ("5", "wanted a JSON object, found int"),
        ("[" * 100_000, "not JSON: "),
        ('{"context": ' + "9" * 5_000 + "}", "not JSON: "),
    ],
)
def test_a_broken_json_line_is_refused_with_its_number(refused, tmp_path, line, said):
    (tmp_path / "corpus.jsonl").write_text('{"context": "Tea."}\n' * 1500 + f"{line}\n")

    message = refused(tmp_path / "corpus.jsonl", GuardError, **{"guard.max_quarantined_fraction": 0.0005})

    assert (
        f" (0.1%): guard.max_quarantined_fraction allows 0.1%. First of what cannot be read: {tmp_path}/corp" in message
    )
    assert f"{tmp_path}/corpus.jsonl, line 1501: {said}" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,context\n2\n", "line 2: 1 fields, the header has 2"),
        ("id,context\n1,Tea, hot\n", "line 2: 3 fields, the header has 2"),
        ('id,context\n1,"Tea\n2,Ink\n', "line 2: not CSV: unexpected end of data"),
        ('id,context\n1,"Tea" hot\n', "line 2: not CSV: "),
        ('id,"context\n1,Tea\n', "line 2: not CSV: unexpected end of data"),
        ("context,context\nTea,Ink\n", "has 2 columns named 'context' (source.columns.text): rename one"),
        ("id;context\n1;Tea\n", "has no column 'context', did you mean 'id;context'?"),
    ],
)
def test_broken_csv_is_refused_with_its_line(refused, tmp_path, content, said):
    (tmp_path / "corpus.csv").write_text(content)

    assert said in refused(tmp_path / "corpus.csv")


@pytest.mark.parametrize("kept", [0, 3, 100, -100, -1])
def test_truncated_parquet_is_refused(refused, tmp_path, kept):
    pa.parquet.write_table(pa.table({"context": ["Tea."] * 100}), tmp_path / "whole")
    (tmp_path / "corpus.parquet").write_bytes((tmp_path / "whole").read_bytes()[:kept])

    assert f"{tmp_path}/corpus.parquet cannot be read, is it complete? " in refused(tmp_path / "corpus.parquet")


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("jsonl", b'{"context": "Tea."}\n' * 5000),
        ("csv", b"context\n" + b"Tea.\n" * 5000),
        ("json", b'{"data": []}' * 99),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "corrupted", "not packed"])
def test_damaged_gzip_is_refused(refused, tmp_path, ending, content, damage):
    whole = gzip.compress(content)
    damaged = {"truncated": whole[:-9], "corrupted": whole[:-8] + bytes(8), "not packed": content}
    (tmp_path / f"corpus.{ending}.gz").write_bytes(damaged[damage])

    assert f"corpus.{ending}.gz cannot be read, is it complete? " in refused(tmp_path / f"corpus.{ending}.gz")


@pytest.mark.parametrize(
    "content",
    ["{}", "5", '"Tea"', "null", '{"data": 5}', '{"data": [5]}', '{"data": [{}]}', '{"data": {"a": 1}}']
    + [
        f'{{"data": [{{"paragraphs": {paragraphs}}}]}}'
        for paragraphs in ("5", "[5]", "[{}]", '[{"context":"","qas":5}]')
    ],
)
def test_malformed_squad_json_is_refused(refused, tmp_path, content):
    (tmp_path / "corpus.json").write_text(content, encoding="latin-1")

    message = refused(tmp_path / "corpus.json")

    assert message.startswith(f"{tmp_path}/corpus.json is not SQuAD's JSON (")
    assert message.endswith(
        "wanted SQuAD's data > paragraphs > context, a list of objects, or objects one after the other"
    )


@pytest.mark.parametrize("content", ["", "\n", '{"data": [', '{"context": "Tea."} x', "\xff", "[" * 100_000])
def test_malformed_json_is_refused(refused, tmp_path, content):
    (tmp_path / "corpus.json").write_text(content, encoding="latin-1")

    assert refused(tmp_path / "corpus.json").startswith(f"{tmp_path}/corpus.json is not JSON (")


def test_squad_json_whose_context_is_no_text_is_refused(refused, tmp_path):
    (tmp_path / "corpus.json").write_text('{"data": [{"title": "Tea", "paragraphs": [{"context": 5}]}]}')

    assert "corpus.json, row 1: 'context' holds int, wanted text" in refused(tmp_path / "corpus.json")


@pytest.mark.parametrize("broken", ["b.parquet", "b.json", "b.jsonl.gz"])
def test_a_broken_file_of_few_refuses_the_whole_folder(refused, tmp_path, broken):
    (tmp_path / "folder").mkdir()
    write_corpus(tmp_path / "folder" / "a.jsonl", numbered(*range(3000)))
    (tmp_path / "folder" / broken).write_text("{")

    message = refused(tmp_path / "folder", GuardError, **{"ingest.shard_passages": 100})

    assert message.startswith("1 of 2 files cannot be read (50.0%): guard.max_quarantined_fraction allows 5.0%")
    assert f"{tmp_path}/folder/{broken}: " in message


def test_a_folder_of_broken_files_is_refused(refused, tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("a.parquet", "b.json"):
        (tmp_path / "folder" / name).write_text("{")

    message = refused(tmp_path / "folder", **{"guard.max_quarantined_fraction": 1})

    assert message.startswith(
        f"nothing of the corpus {tmp_path}/folder can be read: {tmp_path}/folder/a.parquet: cannot"
    )


def test_passages_longer_than_the_model_reads_are_refused(refused, tmp_path):
    changes = _as_path(write_corpus(tmp_path / "corpus.jsonl", numbered(1)))

    message = refused(**changes, error=SettingsError, **{"passages.max_tokens": 513})

    assert message.startswith("passages.max_tokens is 513, but the model reads 512")


def test_a_corpus_that_shrank_is_refused(settings_with, tmp_path):
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(20))))
    run(settings)
    before = stored_rows(settings, live(settings))
    write_corpus(tmp_path / "corpus.jsonl", numbered(*range(10)))

    with pytest.raises(GuardError, match=r"guard\.max_deleted_fraction allows 25\.0%"):
        plan_run(settings, "run")

    assert stored_rows(settings, live(settings)) == before
    assert not list((tmp_path / "staging").glob("*/*"))


@pytest.mark.parametrize("place", ["file/below", "/proc/self/squadron"])
def test_a_store_that_cannot_be_written_is_refused(settings_with, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    settings = settings_with(**{"store.lancedb.uri": place})

    with pytest.raises(StoreError, match=r"store\.lancedb\.uri '[^']*(file/below|/proc/self/squadron)' cannot be"):
        plan_run(settings, "run")

    assert not list((tmp_path / "staging").glob("*/*"))


@pytest.mark.parametrize("place", ["file/below", "/proc/self/squadron"])
def test_staging_that_cannot_be_written_is_refused(settings_with, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    settings = settings_with(**{"ingest.staging": place})

    with pytest.raises(StoreError, match=r"ingest\.staging: .* cannot be written"):
        plan_run(settings, "run")


def test_staging_that_is_full_is_refused(settings_with, tmp_path):
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", numbered(*range(20_000))))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # no file may grow larger
    try:
        with pytest.raises(
            StoreError, match=r"ingest\.staging: .*shard-00000\.parquet cannot be written: File too large"
        ):
            plan_run(settings, "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert not list((tmp_path / "staging").glob("*/*"))


def test_a_row_of_many_passages_goes_through(settings_with, tmp_path):
    text = "".join(f"Sentence number {n} bears the word {'endless' * 20}. " for n in range(600))
    settings = settings_with(**write_corpus(tmp_path / "corpus.jsonl", [*numbered(1), *numbered(2, context=text)]))

    found = run(settings)

    assert len(text) > 100_000
    assert (found.plan.documents, found.plan.quarantined) == (2, 0)
    assert found.finished.rows > 8


def test_a_csv_row_above_the_reader_s_usual_limit_goes_through(settings_with, tmp_path):
    text = f'"Quoted", he said, {"endless" * 20}.\n' * 1_000
    (tmp_path / "corpus.csv").write_text("context\nTea.\n" + '"' + text.replace('"', '""') + '"\nInk.\n')
    settings = settings_with(**{"source.name": "files", "source.path": str(tmp_path / "corpus.csv")})

    assert len(text) > 131_072
    assert plan_run(settings, "run").documents == 3


def _as_path(changes: dict) -> dict:
    return {"path": changes["source.path"]} | {key: value for key, value in changes.items() if key != "source.path"}
