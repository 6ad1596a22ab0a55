"""Locations: where the index is, in words; and which folder is home."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from squadron.settings.home import home, home_and_reason, home_at
from squadron.settings.layers import Layer, resolve
from squadron.settings.locations import index_location, written_locations


def location(base: Path, **values: object) -> str:
    return index_location(resolve([Layer("test", values, base)]).settings)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"store.name": "weaviate", "store.weaviate.uri": "http://db:8080"}, "weaviate at http://db:8080"),
        (
            {"store.name": "pgvector", "store.pgvector.uri": "postgresql://me@db/vectors"},
            "pgvector at postgresql://me@db/vectors, schema squadron",
        ),
        ({"store.name": "pinecone"}, "pinecone at squadron-<dimension>-<metric>"),
        (
            {"store.name": "pinecone", "store.pinecone.host": "http://127.0.0.1:5081"},
            "pinecone at http://127.0.0.1:5081",
        ),
        ({"store.lancedb.uri": "s3://bucket/vectors"}, "lancedb at s3://bucket/vectors"),
        ({"store.lancedb.uri": "connection://lancedb_default"}, "lancedb at connection://lancedb_default"),
    ],
)
def test_the_location_of_an_index_names_store_and_address(values: dict[str, object], said: str, tmp_path: Path) -> None:
    assert location(tmp_path, **values) == said


def test_the_location_of_a_folder_says_what_a_relative_path_was_taken_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, here, there = tmp_path / "project", tmp_path / "here", tmp_path / "there"
    for folder in (project / ".squadron" / "lancedb", here, there):
        folder.mkdir(parents=True)
    monkeypatch.setenv("SQUADRON_HOME", str(project))
    monkeypatch.chdir(here)

    default = project / ".squadron" / "lancedb"
    assert location(here) == f"lancedb at {default}, which is '.squadron/lancedb' below SQUADRON_HOME"
    relative = location(here, **{"store.lancedb.uri": "vectors"})
    assert relative.endswith("/here/vectors (there is no such folder), which is 'vectors' below the working directory")
    assert location(here, **{"store.lancedb.uri": str(there)}) == f"lancedb at {there}"


def test_what_is_written_is_told_in_one_line(tmp_path: Path) -> None:
    values = {"store.lancedb.uri": "a", "cache.path": None, "ingest.staging": "s3://bucket/staging"}
    told = written_locations(resolve([Layer("test", values, tmp_path)]).settings)
    assert told == f"index: lancedb at {tmp_path / 'a'}, cache: none, staging: s3://bucket/staging"


def test_a_given_home_is_the_home_of_its_block_and_thread_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUADRON_HOME", str(tmp_path / "named"))
    with home_at(tmp_path), ThreadPoolExecutor(1) as thread:
        assert home_and_reason() == (tmp_path, "home")
        with home_at(None):
            assert home() == tmp_path
        assert thread.submit(home).result() == tmp_path / "named"
    assert home_and_reason() == (tmp_path / "named", "SQUADRON_HOME")
