"""Engine: what runs a local model. The service module asks for one here; nothing else knows which it is."""

import logging
import os
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from squadron.embeddings.local import bert
from squadron.errors import SettingsError
from squadron.settings.embedding_sections import SentenceTransformersSettings

log = logging.getLogger(__name__)


class Engine(Protocol):
    """A loaded model."""

    device: str
    """Where it runs and how, e.g. `cpu, openvino bf16`, `cuda:0, torch fp32`."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """`float32 [texts, dimension]`, unit length, in the order given."""


@dataclass(frozen=True)
class Machine:
    """What the choice of an engine depends on."""

    accelerator: bool
    """There is a GPU that the installed torch can use."""
    openvino: bool
    """OpenVINO is installed."""


def this_machine() -> Machine:
    """Found out without importing torch or OpenVINO."""
    return Machine(
        accelerator=_has_cuda() or _has_apple_gpu(),
        openvino=find_spec("openvino") is not None,
    )


def load_engine(settings: SentenceTransformersSettings, folder: Path) -> Engine:
    """The model in the folder, loaded, on the backend that the settings name or `chosen_backend` finds."""
    backend = chosen_backend(settings, folder, this_machine())
    if backend == "openvino":
        from squadron.embeddings.local.openvino_engine import OpenVINOEngine

        return OpenVINOEngine(folder, settings.precision, settings.batch_tokens)
    from squadron.embeddings.local.torch_engine import TorchEngine

    return TorchEngine(folder, settings.device, settings.precision, settings.batch_tokens)


def chosen_backend(
    settings: SentenceTransformersSettings, folder: Path, machine: Machine
) -> Literal["torch", "openvino"]:
    """OpenVINO for a plain BERT model on a CPU, else torch; a backend that is named is taken.

    Raises SettingsError when OpenVINO is asked for and cannot run the model.
    """
    if settings.backend == "torch":
        return "torch"
    obstacle = bert.obstacle(folder) if machine.openvino else "the package openvino is not installed"
    if settings.backend == "openvino" or settings.precision == "int8":
        if not obstacle:
            return "openvino"
        key, value = ("backend", "openvino") if settings.backend == "openvino" else ("precision", "int8")
        raise SettingsError(
            f"embedding.sentence_transformers.{key} is {value!r}, but {settings.model} cannot run on OpenVINO: "
            f"{obstacle}. Set it to auto"
        )
    if settings.device in ("cuda", "mps") or (settings.device == "auto" and machine.accelerator):
        return "torch"
    if obstacle:
        log.info("%s runs on torch, more slowly than on OpenVINO: %s", settings.model, obstacle)
        return "torch"
    return "openvino"


def _has_cuda() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    try:
        if version("torch").endswith("+cpu"):
            return False
    except PackageNotFoundError:
        return False
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()  # the latter under WSL


def _has_apple_gpu() -> bool:
    return sys.platform == "darwin" and os.uname().machine == "arm64"
