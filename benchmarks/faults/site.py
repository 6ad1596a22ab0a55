"""A site: one tool, its folder, and the embedding service that it calls; what runs there, and what they leave.

The service is our OpenAI server on loopback: it counts the texts it embeds, and refuses, fails or delays as told.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lancedb

from benchmarks.peers import corpora, tools
from benchmarks.peers.corpora import Document
from benchmarks.peers.reading import Verdict, corpus_table, verdict
from benchmarks.peers.tools import Tool
from tests.wire.openai_server import OpenAIServer

SECONDS_A_RUN = 900


@dataclass(frozen=True)
class Run:
    """A run that has ended, or was ended."""

    exit_code: int
    texts: int
    """Embedded during it, counted by the service."""


class Site:
    """Where faults happen to one tool."""

    def __init__(self, tool: Tool, environments: Path, folder: Path, documents: list[Document]) -> None:
        self.tool, self.documents = tool, documents
        changed = corpora.edit(documents, set(range(len(documents))))
        self._texts = {document["text"].strip() for document in [*documents, *changed]}
        self._environments, self._folder, self._store = environments, folder, folder / "store"
        self._ready = folder / "ready"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.server = OpenAIServer()
        self.server.counts_tokens = False

    def empty(self) -> None:
        """Forget everything that runs have left, and heal the service."""
        self.heal()
        shutil.rmtree(self._store, ignore_errors=True)
        self._store.mkdir()

    def synced(self) -> None:
        """Be as after a good first run, and heal the service."""
        if not self._ready.exists():
            self.empty()
            first = self.run(self.documents)
            if first.exit_code or not self.verdict(self.documents).faultless:
                raise SystemExit(f"{self.tool.name}: the first run failed ({first}), see {self._folder}/log")
            shutil.copytree(self._store, self._ready)
        self.empty()
        shutil.copytree(self._ready, self._store, dirs_exist_ok=True)

    def heal(self) -> None:
        """Let the service answer everything, at once."""
        self.server.faults.clear()
        self.server.refused, self.server.key, self.server.latency_seconds = set(), None, 0.0

    def run(self, documents: list[Document], killed_after: int | None = None) -> Run:
        """Sync the documents; kill -9 once so many texts are embedded."""
        corpus = corpora.write(documents, self._folder / "corpus.jsonl")
        command = tools.command(self.tool, self._environments, f"{self.server.url}/v1", corpus, self._store)
        before = self.texts_embedded()
        with (self._folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, env=tools.process_environment(), stdout=log, stderr=log, start_new_session=True
            )
        enough = None if killed_after is None else lambda: self.texts_embedded() - before >= killed_after
        if not _ended(process, enough):
            raise SystemExit(
                f"{self.tool.name}: a run took more than {SECONDS_A_RUN} s, and was killed: is the machine busy?"
            )
        return Run(process.wait(), self.texts_embedded() - before)

    def texts_embedded(self) -> int:
        """Documents' texts that the service has embedded so far."""
        with self.server.lock:
            return sum(times for text, times in self.server.embedded.items() if text.strip() in self._texts)

    def verdict(self, documents: list[Document]) -> Verdict:
        """What readers find, against these documents."""
        return verdict(self._store, documents)

    def drop_table(self) -> None:
        """Drop the table that readers read."""
        lancedb.connect(self._store / "lancedb").drop_table(corpus_table(self._store).name)

    def delete_rows(self, documents: list[Document]) -> None:
        """Delete the rows of these documents, behind the tool's back."""
        table = corpus_table(self._store)
        column = "document_id" if "document_id" in table.schema.names else "metadata.document_id"
        table.delete(f"{column} IN ({', '.join(repr(document['document_id']) for document in documents)})")


def _ended(process: subprocess.Popen[bytes], enough: Callable[[], bool] | None) -> bool:
    """Wait for a process; kill it, and all that it started, once it is enough or too long: False if too long."""
    deadline = time.monotonic() + SECONDS_A_RUN
    while process.poll() is None:
        late = time.monotonic() > deadline
        if late or (enough and enough()):
            os.killpg(process.pid, signal.SIGKILL)
            return not late
        time.sleep(0.02)
    return True
