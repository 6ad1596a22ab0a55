"""The command line as scripts use it: what goes to stdout, the keys of its JSON, its exit codes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def squadron(tmp_path: Path) -> Run:
    """Runs `squadron` on the sample with hashed vectors, everything below tmp_path."""
    return runner_below(tmp_path)


@pytest.fixture
def ingested(first_run: tuple[dict[str, Any], Path], tmp_path: Path) -> dict[str, Any]:
    """What a first `ingest` reported, whose index, cache and staging are below tmp_path as if it had run there."""
    report, folder = first_run
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return report


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    folder = tmp_path_factory.mktemp("first")
    return answer(runner_below(folder)("ingest", "--json")), folder


def runner_below(folder: Path) -> Run:
    pairs = {
        "collection": "demo",
        "source.name": "sample",
        "embedding.service": "hashing",
        "store.lancedb.uri": str(folder / "lancedb"),
        "ingest.staging": str(folder / "staging"),
        "cache.path": str(folder / "cache"),
    }

    def run(command: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        settings = [f"--set={key}={value}" for key, value in pairs.items()]
        return subprocess.run(
            [sys.executable, "-m", "squadron", command, *settings, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | environment,
        )

    return run


def answer(done: "subprocess.CompletedProcess[str]") -> Any:
    """The one JSON object on stdout."""
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def test_ingest_reports_what_the_contract_names(squadron: Run) -> None:
    report = answer(squadron("ingest", "--json"))

    assert report["collection"] == "demo"
    assert report["live"] == report["generation"]
    assert set(report["counts"]) == {
        *("documents", "passages", "unchanged", "embedded"),
        *("cached", "written", "deleted", "quarantined"),
    }
    assert set(report["metrics"]) == {"recall_at_1", "recall_at_5", "recall_at_10", "mrr_at_10", "ndcg_at_10"}
    assert set(report["seconds"]) == {"plan", "ingest", "finish", "evaluate", "promote"}
    assert report["cost"] == 0
    counts = report["counts"]
    assert (counts["documents"], counts["passages"], counts["embedded"], counts["written"]) == (104, 107, 107, 107)


def test_a_second_ingest_embeds_and_writes_nothing(squadron: Run, ingested: dict[str, Any]) -> None:
    second = answer(squadron("ingest", "--json"))

    assert (second["counts"]["embedded"], second["counts"]["written"], second["counts"]["deleted"]) == (0, 0, 0)
    assert second["counts"]["unchanged"] == ingested["counts"]["passages"]
    assert second["metrics"] == ingested["metrics"]


def test_ingest_tells_a_person_what_it_did(squadron: Run, tmp_path: Path) -> None:
    done = squadron("ingest")

    assert done.returncode == 0
    for said in ("104 documents", "107 embedded", "recall@10", "demo_", "promoted"):
        assert said in done.stdout
    assert "plan for demo_" in done.stderr
    folders = [tmp_path / name for name in ("lancedb", "cache", "staging")]
    assert done.stderr.startswith("index: lancedb at {}, cache: {}, staging: {}\n".format(*folders))


def test_plan_says_what_would_change_and_writes_nothing(squadron: Run, tmp_path: Path) -> None:
    planned = answer(squadron("plan", "--json"))

    assert (planned["counts"]["to_embed"], planned["counts"]["to_delete"]) == (107, 0)
    assert planned["tokens"] > 107
    assert planned["live"] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("ingested")
def test_search_prints_ranked_matches(squadron: Run) -> None:
    found = answer(squadron("search", "The deepest trench of the ocean", "--top-k", "3", "--json"))

    assert [match["rank"] for match in found["matches"]] == [1, 2, 3]
    assert set(found["matches"][0]) == {"rank", "passage_id", "document_id", "title", "text", "score", "metadata"}
    scores = [match["score"] for match in found["matches"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.usefixtures("ingested")
def test_search_keeps_to_a_filter_and_refuses_an_unknown_column(squadron: Run) -> None:
    found = answer(squadron("search", "water", "--filter", "title=Tea", "--json"))
    refused = squadron("search", "water", "--filter", "colour=red")

    assert {match["title"] for match in found["matches"]} == {"Tea"}
    assert refused.returncode == 1
    assert "'colour'" in refused.stderr
    assert "title" in refused.stderr


def test_search_before_any_ingest_says_what_to_do(squadron: Run, tmp_path: Path) -> None:
    done = squadron("search", "anything")

    assert done.returncode == 1
    assert "ingest first" in done.stderr
    assert f"lancedb at {tmp_path / 'lancedb'} (there is no such folder), which is 'lancedb' below" in done.stderr
    assert "Traceback" not in done.stderr


def test_another_template_is_built_beside_and_rollback_returns(squadron: Run, ingested: dict[str, Any]) -> None:
    plain = ("--set=passages.template=plain_v1", "--set=gate.max_drop=0.5")
    first = ingested["generation"]

    second = answer(squadron("ingest", "--json", *plain))
    back = answer(squadron("rollback", "--json"))
    listed = answer(squadron("generations", "--json"))["generations"]
    held = answer(squadron("ingest", "--json", *plain))
    forward = answer(squadron("promote", second["generation"], "--json"))

    assert second["live"] == second["generation"] != first
    assert second["previous"] == first
    assert (back["live"], back["previous"]) == (first, second["generation"])
    assert {row["generation"]: row["live"] for row in listed} == {first: True, second["generation"]: False}
    assert held["live"] == first
    assert "rolled back" in held["held"]
    assert forward["live"] == second["generation"]


def test_a_worse_generation_is_refused_and_the_live_one_stays(
    squadron: Run, ingested: dict[str, Any], tmp_path: Path
) -> None:
    live = ingested["live"]

    done = squadron("ingest", "--set=passages.template=plain_v1", "--set=gate.max_drop=0.01")
    listed = answer(squadron("generations", "--json"))["generations"]

    assert done.returncode == 1
    assert "gate.max_drop" in done.stderr
    assert sorted(row["live"] for row in listed) == [False, True]  # the candidate is kept for inspection
    assert next(row["generation"] for row in listed if row["live"]) == live
    assert not list((tmp_path / "staging").rglob("*.parquet"))


@pytest.mark.usefixtures("ingested")
def test_rollback_without_a_predecessor_is_refused(squadron: Run) -> None:
    done = squadron("rollback")

    assert done.returncode == 1
    assert "no earlier generation" in done.stderr


def test_promoting_an_unknown_generation_names_those_that_exist(squadron: Run, ingested: dict[str, Any]) -> None:
    live = ingested["live"]

    done = squadron("promote", "demo_00000000")

    assert done.returncode == 1
    assert live in done.stderr


def test_evaluate_measures_the_live_generation(squadron: Run, ingested: dict[str, Any]) -> None:
    measured = answer(squadron("evaluate", "--json"))

    assert measured["metrics"] == ingested["metrics"]
    assert measured["questions"] == 351


def test_config_says_where_each_value_comes_from(squadron: Run) -> None:
    shown = answer(squadron("config", "--json"))

    assert shown["settings"]["collection"] == "demo"
    assert shown["origins"]["source.name"] == "--set"
    assert shown["origins"]["gate.max_drop"] == "default"


def test_config_reads_the_file_of_the_collection() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "squadron", "config", "--json"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert answer(done)["origins"]["store.name"] == "config/squad.toml"


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("source.limt=5", "did you mean 'source.limit'?"),
        ("source.limit=many", "wanted a valid integer"),
        ("source.limit=0", "greater than 0"),
        ("source.limit=-3", "greater than 0"),
        ("store.name=lancdb", "did you mean 'lancedb'?"),
        ("nothing", "not KEY=VALUE"),
    ],
)
def test_wrong_settings_exit_with_2(squadron: Run, pair: str, said: str) -> None:
    done = squadron("ingest", f"--set={pair}")

    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_wrong_usage_exits_with_2(squadron: Run) -> None:
    assert squadron("ingest", "--no-such-option").returncode == 2


def test_a_corpus_that_cannot_be_read_exits_with_1(squadron: Run) -> None:
    done = squadron("ingest", "--set=source.name=files", "--set=source.path=absent.csv")

    assert done.returncode == 1
    assert "absent.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_graph_is_drawn(squadron: Run, tmp_path: Path) -> None:
    if not shutil.which("dot"):
        pytest.skip("Graphviz is not installed: apt-get install graphviz")

    done = squadron("graph", "graph.svg")

    assert done.returncode == 0, done.stderr
    drawn = (tmp_path / "graph.svg").read_text()
    assert all(node in drawn for node in ("embeddings", "rows_written", "passages", "metrics"))
    assert "changes the store" in drawn  # the legend


def test_without_graphviz_the_graph_command_says_what_to_install(squadron: Run) -> None:
    done = squadron("graph", "graph.svg", PATH="")

    assert done.returncode == 2
    assert "apt-get install graphviz" in done.stderr


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, json\n"
        "sys.argv = ['squadron', '--help']\n"
        "try:\n    import runpy; runpy.run_module('squadron', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)

    modules = set(json.loads(done.stderr))
    assert "ingest" in done.stdout
    assert not modules & {"torch", "lancedb", "hamilton", "pyarrow", "numpy", "pydantic", "airflow", "datasets"}


@pytest.mark.usefixtures("ingested")
def test_an_unchanged_run_loads_no_model(squadron: Run, tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        f"sys.argv = {['squadron', 'ingest', *[a for a in squadron('config').args if a.startswith('--set')]]!r}\n"
        "try:\n    import runpy; runpy.run_module('squadron', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    modules = set(json.loads(done.stdout.strip().splitlines()[-1]))
    assert "lancedb" in modules
    assert not modules & {"torch", "sentence_transformers", "transformers", "datasets", "airflow", "openvino"}
