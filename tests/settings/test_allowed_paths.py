"""Places: a run's params cannot make workers read other files, or send keys to other servers."""

from pathlib import Path
from typing import Any

import pytest

from squadron.errors import SettingsError
from squadron.settings.home import home
from squadron.settings.layers import Layer, Resolved, resolve
from squadron.settings.schema import marked

SECRET = "hunter2-4711"


def resolved(params: dict[str, Any], variables: dict[str, Any] | None = None) -> Resolved:
    """Settings of a run with these params."""
    layers = [Layer("Variable vector_ingest", variables or {}, home())]
    return resolve([*layers, Layer("run params", params, home(), trusted=False)])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source.path", "/etc/passwd"),
        ("source.path", "data/../../../etc/passwd"),
        ("source.path", "~/.ssh/*"),
        ("source.path", "file:///etc/passwd"),
        ("source.path", "s3://somebody/else.parquet"),
        ("source.path", "config/squad.toml"),
        ("store.lancedb.uri", "/tmp/elsewhere"),
        ("ingest.staging", "../staging"),
        ("cache.path", "s3://bucket/cache"),
        ("embedding.openai.base_url", "https://evil.example/v1"),
        ("embedding.openai.base_url", "https://api.openai.com.evil.example/v1"),
        ("embedding.openai.fallback_base_urls", ["https://evil.example/v1"]),
        ("embedding.cohere.base_url", "http://169.254.169.254"),
        ("store.pinecone.host", "https://evil.example"),
        ("store.weaviate.uri", "http://127.0.0.1:6379"),
        ("store.weaviate.grpc_host", "evil.example"),
        ("store.pgvector.uri", "postgresql://postgres@evil.example/postgres"),
    ],
)
def test_params_cannot_name_a_place_of_their_own(key: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=rf"{key} = .*run params.*SQUADRON_ALLOWED_PATHS"):
        resolved({key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source.path", "data/corpus.json"),
        ("source.path", "data/*.parquet"),
        ("source.path", "hf://datasets/rajpurkar/squad_v2"),
        ("store.lancedb.uri", ".squadron/lancedb"),
        ("store.lancedb.uri", ".squadron/lancedb/mine"),
        ("cache.path", None),
        ("embedding.openai.base_url", "https://api.openai.com/v1"),
    ],
)
def test_params_may_name_what_is_configured_and_what_is_below(key: str, value: Any) -> None:
    assert resolved({key: value}).origins[key] == "run params"


def test_params_may_name_what_a_variable_names(tmp_path: Path) -> None:
    variables = {"source.path": str(tmp_path), "embedding.openai.base_url": "http://vllm:8000/v1"}
    params = {"source.path": str(tmp_path / "a" / "*.csv"), "embedding.openai.base_url": "http://vllm:8000/v1/"}

    assert resolved(params, variables).settings.source.path == str(tmp_path / "a" / "*.csv")


def test_a_link_does_not_lead_out(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to("/etc")

    with pytest.raises(SettingsError, match="link/passwd"):
        resolved(
            {"source.path": str(tmp_path / "inside" / "link" / "passwd")}, {"source.path": str(tmp_path / "inside")}
        )


def test_the_environment_of_the_workers_allows_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUADRON_ALLOWED_PATHS", f"{tmp_path} s3://corpora/public")

    resolved({"source.path": str(tmp_path / "corpus.csv")})
    resolved({"source.path": "s3://corpora/public/squad.parquet"})
    for refused in ("s3://corpora/private/squad.parquet", "s3://corpora/public/../private", "/etc/passwd"):
        with pytest.raises(SettingsError, match="SQUADRON_ALLOWED_PATHS"):
            resolved({"source.path": refused})


def test_a_star_allows_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUADRON_ALLOWED_PATHS", "*")
    assert resolved({"source.path": "/etc/hostname"}).settings.source.path == "/etc/hostname"


def test_what_the_operator_sets_is_taken_as_it_is() -> None:
    assert resolve([Layer("--set", {"source.path": "/etc/hostname"}, home())]).settings.source.path == "/etc/hostname"


@pytest.mark.parametrize("key", [key for mark in ("location", "address") for key in marked(mark)])
@pytest.mark.parametrize(
    "place",
    [
        f"https://me:{SECRET}@host/x.jsonl",
        f"s3://:{SECRET}@host/x",
        f"https://host/x.parquet?X-Amz-Signature={SECRET}&v=1",
        f"https://host/v1?subscription-key={SECRET}",
        f"az://c/x?sv=1&sig={SECRET}",
    ],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_a_secret_in_a_path_or_an_address_is_refused_and_not_shown(key: str, place: str, trusted: bool) -> None:
    value = [place] if key.endswith("_urls") else place

    with pytest.raises(SettingsError) as refused:
        resolve([Layer("config/faq.toml", {key: value}, Path.cwd(), trusted)])

    assert str(refused.value).startswith(f"{key} (from config/faq.toml) bears a password or a key")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "place",
    ["hf://datasets/me/name@v1.0", "s3://bucket/key=value/x.parquet", "https://me@host:8080/a:b/x?keyspace=1", "a:b@c"],
)
def test_what_only_looks_like_a_secret_is_taken(place: str) -> None:
    assert resolve([Layer("test", {"source.name": "files", "source.path": place}, Path("/"))]).settings.source.path
