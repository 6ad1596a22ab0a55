"""A pinned revision of a data set is that commit or an error, with the hub and without it; and it is recorded."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from squadron.errors import SourceError
from squadron.generations.catalog import Generations
from squadron.settings.layers import Layer, resolve
from squadron.settings.schema import SourceSettings
from squadron.sources.squad_source import pinned
from tests.hub import COMMIT, serving
from tests.sources.corpora import read, records, write_parquet

pytestmark = pytest.mark.xdist_group("datasets")

OLD, NEVER = "a" * 40, "c" * 40
ID = "hf://datasets/acme/books"
_READ = """
import json, sys
from squadron.errors import SourceError
from squadron.settings.schema import SourceSettings
from squadron.sources.squad_source import pinned, read_rows
found = []
for changes in json.loads(sys.argv[1]):
    try:
        source = pinned(SourceSettings.model_validate({"path": "hf://datasets/acme/books"} | changes))
        texts = [text for rows in read_rows(source) for text in rows["text"].to_pylist()]
        found.append([source.revision, *texts])
    except SourceError as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""


def read_each(tmp_path: Path, *changes: dict[str, Any], **environment: str) -> list[Any]:
    """What a fresh process, whose caches are those of the one before, reads of each source: commit and texts."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    ran = subprocess.run(
        [sys.executable, "-c", _READ, json.dumps(changes)],
        env=inherited | {"HF_HOME": str(tmp_path / "huggingface")} | environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    return json.loads(ran.stdout)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """A hub whose data set has an old commit, with the tag v1, and a new one."""
    for name in ("old", "new"):
        write_parquet(tmp_path / name / "data" / "train-00000-of-00001.parquet", records(1, context=f"{name} text"))
        (tmp_path / name / "README.md").write_text("A data set.\n")

    @contextmanager
    def up() -> Iterator[str]:
        with serving("acme/books", tmp_path / "new", revisions={"v1": (OLD, tmp_path / "old")}) as address:
            yield address

    yield up


def test_a_pinned_commit_is_read_offline_too_though_a_newer_one_is_cached(tmp_path: Path, hub: Any) -> None:
    old, tag, new = {"revision": OLD}, {"revision": "v1"}, dict[str, str]()
    with hub() as address:
        online = read_each(tmp_path, old, tag, new, HF_ENDPOINT=address)
    offline = read_each(tmp_path, old, tag, new, {"revision": COMMIT}, HF_HUB_OFFLINE="1")
    away = read_each(tmp_path, old, HF_ENDPOINT="http://127.0.0.1:9")

    assert online == [[OLD, "old text"], [OLD, "old text"], [COMMIT, "new text"]]
    assert offline == [*online, [COMMIT, "new text"]]
    assert away == [[OLD, "old text"]]


def test_a_revision_that_cannot_be_had_is_an_error_and_never_another(tmp_path: Path, hub: Any) -> None:
    never, tag = {"revision": NEVER}, {"revision": "v1"}
    with hub() as address:
        read_each(tmp_path, {}, HF_ENDPOINT=address)
        online = read_each(tmp_path, never, {"revision": "v2"}, HF_ENDPOINT=address)
    offline = read_each(tmp_path, never, tag, HF_HUB_OFFLINE="1")

    assert all(message.startswith("SourceError: data set 'acme/books'") for message in online)
    assert "has no revision 'v2'" in online[1]
    assert offline[0].startswith(
        f"UnreachableSourceError: the Hugging Face Hub cannot be reached and 'acme/books' at "
        f"revision {NEVER} is not in the local cache"
    )
    assert offline[1].startswith("UnreachableSourceError: revision 'v1' of data set 'acme/books' is not in the local")


def test_a_hub_that_no_longer_has_the_data_set_does_not_change_what_a_commit_is(tmp_path: Path, hub: Any) -> None:
    with hub() as address:
        read_each(tmp_path, {"revision": OLD}, {}, HF_ENDPOINT=address)
    with serving("acme/others", tmp_path / "new") as address:
        old, never = read_each(tmp_path, {"revision": OLD}, {"revision": NEVER}, HF_ENDPOINT=address)

    assert old == [OLD, "old text"]
    assert "SourceError: " in never


@pytest.mark.parametrize(
    "path", ["hf://datasets/books", "hf://datasets/../books", "hf://datasets/a/b/c", "hf://datasets/"]
)
def test_only_an_organisation_and_a_name_are_a_data_set_of_the_hub(path: str) -> None:
    with pytest.raises(SourceError, match="names no data set of the hub: wanted hf://datasets/ORG/NAME"):
        read(path, "squad")


def test_a_folder_below_the_working_directory_is_not_taken_for_one_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_parquet(tmp_path / "acme" / "books" / "train.parquet", records(1, context="password"))
    monkeypatch.chdir(tmp_path)

    (message,) = read_each(tmp_path, {}, HF_HUB_OFFLINE="1")

    assert message.startswith("UnreachableSourceError: the Hugging Face Hub cannot be reached and 'acme/books' is not")


def test_a_revision_of_what_has_none_is_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "train.parquet", records(1))

    with pytest.raises(SourceError, match=r"source\.revision is 'v1', and source\.path is a folder, which has no"):
        read(tmp_path, "squad", revision="v1")
    with pytest.raises(SourceError, match=r"hf://datasets/ORG/NAME@REVISION"):
        read(path, "files", revision="v1")


def test_one_of_several_configurations_is_named_by_a_setting(tmp_path: Path) -> None:
    for name in ("de", "th"):
        write_parquet(tmp_path / name / "train-0.parquet", records(1, context=f"{name} text"))
    configs = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/train-*\n" for name in ("de", "th")
    )
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")

    rows, _ = read(tmp_path, "squad", config="th")
    with pytest.raises(SourceError, match=r"(?s)available configs: \['de', 'th'\].*Say with source\.config which one"):
        read(tmp_path, "squad")

    assert [row["text"] for row in rows] == ["th text"]


def test_report_and_index_record_the_commit(tmp_path: Path, hub: Any) -> None:
    places = {name: str(tmp_path / name) for name in ("store.lancedb.uri", "ingest.staging", "cache.path")}
    values = {
        "collection": "books",
        "embedding.service": "hashing",
        "source.path": ID,
        "source.revision": "v1",
    } | places
    command = [sys.executable, "-m", "squadron", "ingest", "--json", *(f"--set={k}={v}" for k, v in values.items())]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with hub() as address:
        ran = subprocess.run(
            command,
            env=inherited | {"HF_HOME": str(tmp_path / "huggingface"), "HF_ENDPOINT": address},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=300,
        )
    report = json.loads(ran.stdout)
    catalog = Generations.of(resolve([Layer("test", values, tmp_path)]).settings)

    assert report["source_revision"] == catalog[report["generation"]].source_revision == OLD


def test_a_folder_has_no_commit(tmp_path: Path) -> None:
    source = SourceSettings(path=str(tmp_path))

    assert pinned(source) == source
