"""Settings: layers, origins, and messages that a person can act on."""

from pathlib import Path

import pytest

from squadron.errors import SettingsError
from squadron.settings.assignments import assignments
from squadron.settings.layers import Layer, resolve
from squadron.settings.registry import REGISTRIES, SOURCES, load
from squadron.settings.schema import Settings, leaves


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty project folder."""
    monkeypatch.setenv("SQUADRON_HOME", str(tmp_path))
    (tmp_path / "config").mkdir()
    return tmp_path


def layer(values: dict, name: str = "params") -> Layer:
    return Layer(name, values, Path("/elsewhere"))


def refusal(values: dict) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve([layer(values)])
    return str(caught.value)


def test_without_layers_the_defaults_hold(home):
    resolved = resolve()

    assert resolved.settings.collection == "squad"
    assert resolved.settings.source.name == "squad"
    assert resolved.origins == {}


def test_later_layers_win_and_origins_tell_which(home):
    (home / "config" / "squad.toml").write_text("[source]\nlimit = 1\nsplit = 'train'\n[store]\nname = 'lancedb'\n")

    resolved = resolve([layer({"source.limit": 2}, "Variables"), layer({"source": {"limit": 3}}, "params")])

    assert resolved.settings.source.limit == 3
    assert resolved.origins["source.limit"] == "params"
    assert resolved.origins["source.split"] == "config/squad.toml"
    assert "source.limit = 3  (params)" in list(resolved.lines())
    assert 'source.split = "train"  (config/squad.toml)' in list(resolved.lines())
    assert "guard.max_deleted_fraction = 0.25  (default)" in list(resolved.lines())


def test_a_collection_brings_its_own_file(home):
    (home / "config" / "books.toml").write_text("[source]\nlimit = 7\n")

    resolved = resolve([layer({"collection": "books"})])

    assert resolved.settings.collection == "books"
    assert resolved.settings.source.limit == 7


def test_the_last_layer_that_names_a_collection_chooses_the_file(home):
    (home / "config" / "books.toml").write_text("[source]\nlimit = 7\n")

    resolved = resolve([layer({"collection": "films"}), layer({"collection": "books"})])

    assert resolved.settings.source.limit == 7


def test_a_file_that_names_another_collection_is_refused(home):
    (home / "config" / "books.toml").write_text("collection = 'films'\n")

    with pytest.raises(SettingsError, match=r"config/books\.toml says collection = 'films'"):
        resolve([layer({"collection": "books"})])


@pytest.mark.parametrize("content", [b"source = [", b"# caf\xe9\n"])
def test_a_broken_file_is_refused_by_name(home, content):
    (home / "config" / "squad.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=r"config/squad\.toml is not valid TOML"):
        resolve()


def test_the_variables_of_airflow_have_short_names(home):
    resolved = resolve([layer({"embedding_service": "hashing", "vector_store": "lancedb"}, "Variables")])

    assert resolved.settings.embedding.service == "hashing"
    assert resolved.origins["embedding.service"] == resolved.origins["store.name"] == "Variables"


@pytest.mark.parametrize(
    ("values", "nearest"),
    [
        ({"source": {"limt": 5}}, "source.limit"),
        ({"source.limt": 5}, "source.limit"),
        ({"sorce.limit": 5}, "source.limit"),
        ({"colection": "x"}, "collection"),
        ({"vector_stor": "x"}, "vector_store"),
        ({"embedding": {"hashing": {"dimensions": 5}}}, "embedding.hashing.dimension"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_name(home, values, nearest):
    message = refusal(values)

    assert message.startswith("params: ")
    assert f"did you mean {nearest!r}?" in message


@pytest.mark.parametrize("values", [{"source": {"limit": 0}}, {"source.limit": -3}])
def test_a_limit_below_one_is_refused(home, values):
    message = refusal(values)

    assert "source.limit = " in message
    assert "(from params): wanted greater than 0" in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source.limit": "many"}, "source.limit = 'many' (from params): wanted a valid integer"),
        ({"guard.max_deleted_fraction": 1.5}, "wanted less than or equal to 1"),
        ({"guard.max_deleted_fraction": float("nan")}, "guard.max_deleted_fraction = nan"),
        ({"passages.template": "fancy"}, "wanted 'title_text_v1' or 'plain_v1'"),
        ({"source.columns.metadata": "author"}, "source.columns.metadata = 'author'"),
        ({"source.columns.metadata": ["a b"]}, "source.columns.metadata = 'a b' (from params): wanted text that"),
        ({"collection": "My Books"}, "collection = 'My Books' (from params): wanted text that matches"),
        ({"source": 5}, "params: source = 5: wanted a table of settings"),
        ({"source.limit": {"rows": 5}}, "source.limit = {'rows': 5}"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_origin(home, values, said):
    assert said in refusal(values)


@pytest.mark.parametrize(
    ("key", "found", "nearest"),
    [
        ("source.name", "file", "files"),
        ("embedding.service", "sentence-transformers", "sentence_transformers"),
        ("store.name", "lancdb", "lancedb"),
    ],
)
def test_an_unknown_backend_is_refused_with_the_nearest_name(home, key, found, nearest):
    message = refusal({key: found})

    assert message.startswith(f"{key} (from params): {found!r} is not one of the ")
    assert f"did you mean {nearest!r}?" in message


@pytest.mark.parametrize("reserved", ["id", "text", "vector", "document_id", "score", "query_index"])
def test_metadata_columns_may_not_take_reserved_names(home, reserved):
    message = refusal({"source.columns.metadata": ["author", reserved]})

    assert message == (
        f"source.columns.metadata names {reserved}, which Squadron uses itself: rename them, as in "
        f"source_{reserved}={reserved}"
    )


def test_metadata_columns_may_not_repeat(home):
    assert refusal({"source.columns.metadata": ["author", "author"]}).startswith(
        "source.columns.metadata names a column twice: author"
    )


def test_files_need_a_path(home):
    assert refusal({"source.name": "files"}) == ("source.name is 'files' but source.path is not set: say which files")


def test_relative_paths_start_from_the_place_that_set_them(home):
    (home / "config" / "squad.toml").write_text("[source]\npath = 'corpus'\n[ingest]\nstaging = '/fast/disk'\n")

    settings = resolve([layer({"store.lancedb.uri": "vectors"})]).settings

    assert settings.source.path == str(home / "corpus")
    assert settings.ingest.staging == "/fast/disk"
    assert settings.store.lancedb.uri == "/elsewhere/vectors"


def test_default_paths_start_from_home(home):
    assert resolve().settings.store.lancedb.uri == str(home / ".squadron" / "lancedb")


@pytest.mark.parametrize("uri", ["s3://bucket/vectors", "memory://vectors", "hf://datasets/org/name"])
def test_uris_are_left_alone(home, uri):
    assert resolve([layer({"source.path": uri})]).settings.source.path == uri


def test_assigned_text_becomes_a_number(home):
    resolved = resolve([layer(assignments(["source.limit=5", "gate.max_drop=0.5"]))])

    assert resolved.settings.source.limit == 5
    assert resolved.settings.gate.max_drop == 0.5


def test_settings_are_frozen_and_can_be_compared(home):
    settings = resolve().settings

    with pytest.raises(ValueError, match="frozen"):
        settings.collection = "films"
    assert settings == Settings.model_validate_json(settings.model_dump_json())
    assert hash(settings) == hash(resolve().settings)


def test_every_setting_is_described():
    assert [key for key, field in leaves() if not field.description] == []


@pytest.mark.parametrize(("registry", "name"), [(r, name) for r, names in REGISTRIES.items() for name in names])
def test_every_registered_backend_can_be_loaded(registry, name):
    assert load(registry, name).__doc__


def test_a_backend_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "strange_source.py").write_text("import package_that_nobody_has\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(SOURCES, "strange", "strange_source")

    with pytest.raises(SettingsError, match="needs the package 'package_that_nobody_has', which is not installed"):
        load("sources", "strange")
