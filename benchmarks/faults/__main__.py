"""Faults: who survives what: `python -m benchmarks.faults --corpus train.parquet`.

Every tool of `benchmarks.peers` embeds through its own OpenAI client, at a server of ours on loopback (tests/wire) that
counts texts and fails as told; 100 texts a request, CocoIndex 64. Each fault meets each tool in a folder of its own.
What became of it is read from the store, never from what the tool says. A cell says whether the tool survived: after
one more run at the most the store holds the corpus, and no reader has missed a document in between. Then: documents
lost to readers, texts embedded again, exit codes of the runs.
"""

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.faults.scenarios import SCENARIOS, Outcome
from benchmarks.faults.site import Site
from benchmarks.peers import corpora, tools
from benchmarks.peers.tools import TOOLS, Tool

DEFAULT = Path(".squadron/benchmarks")
COMPARED = [tool for tool in TOOLS if not tool.settings]


def main() -> None:
    """Print a table, and write it with all details to the folder."""
    arguments = _arguments()
    folder, environments = arguments.folder.absolute(), arguments.environments.absolute()
    documents = corpora.squad(arguments.corpus, arguments.documents)
    outcomes: dict[str, dict[str, Outcome]] = {}
    chosen = [tool for tool in COMPARED if not arguments.only or tool.name in arguments.only]
    for tool in chosen:
        tools.install(tool, environments)
        outcomes[tool.name] = {}
        site = Site(tool, environments, folder / tool.name, documents)
        with site.server:
            for name in arguments.faults or SCENARIOS:
                outcomes[tool.name][name] = outcome = SCENARIOS[name](site)
                print(f"{tool.name:12} {name:40} {outcome}", file=sys.stderr)
        head = f"{len(documents)} documents, {datetime.now(UTC):%Y-%m-%d}."
        (folder / "faults.md").write_text(f"{head}\n\n{_table(outcomes)}\n")
        (folder / "faults.json").write_text(json.dumps(_details(outcomes, chosen, environments), indent=1))
    print((folder / "faults.md").read_text())


def _table(outcomes: dict[str, dict[str, Outcome]]) -> str:
    faults = next(iter(outcomes.values()))
    lines = [f"| | {' | '.join(outcomes)} |", "|---" * (len(outcomes) + 1) + "|"]
    lines += [f"| {fault} | {' | '.join(str(found[fault]) for found in outcomes.values())} |" for fault in faults]
    return "\n".join(lines)


def _details(outcomes: dict[str, dict[str, Outcome]], chosen: list[Tool], environments: Path) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {tool.name: tools.versions(tool, environments) for tool in chosen if tool.name in outcomes},
        "outcomes": {tool: {fault: asdict(o) for fault, o in found.items()} for tool, found in outcomes.items()},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="SQuAD as parquet: columns title and context")
    parser.add_argument("--documents", type=int, default=1000)
    parser.add_argument("--only", nargs="+", choices=[tool.name for tool in COMPARED], help="these tools alone")
    parser.add_argument("--faults", nargs="+", choices=list(SCENARIOS), help="these faults alone")
    parser.add_argument("--folder", type=Path, default=DEFAULT / "faults", help="stores, logs, results")
    parser.add_argument("--environments", type=Path, default=DEFAULT / "environments")
    return parser.parse_args()


if __name__ == "__main__":
    main()
