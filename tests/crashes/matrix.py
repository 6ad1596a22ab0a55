"""The matrix: what a run is to do, where it can be killed, and what must be true then and after the next run."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.crashes.kills import Launcher, Outcome
from tests.crashes.places import Place, Restore
from tests.whole_runs import numbered, write_corpus

BATCH = 4
BEFORE = numbered(*range(24), kind="old")
# Of 24 documents four are gone and four changed; four are new.
AFTER = [*numbered(*range(4, 8), kind="old", title="Changed"), *numbered(*range(8, 28), kind="old")]
STEPS = {
    *("runs/plan.plan_run", "runs/ingest_shard.ingest_shard", "runs/finish.finish"),
    *("runs/evaluate.evaluate", "runs/promote.promote"),
}
TURNS = ("rows_written", "rows_deleted", "index_built", "record_stored", "promoted", "dropped")


@dataclass(frozen=True)
class Scenario:
    """Runs that come before, oldest first, and the one that is killed: corpus, and tokens of overlap."""

    name: str
    before: Sequence[tuple[list[dict[str, Any]], int]]
    after: tuple[list[dict[str, Any]], int]


# Another overlap is another generation; of three, the oldest is dropped.
SCENARIOS = (
    Scenario("first run", (), (BEFORE, 4)),
    Scenario("changed corpus", ((BEFORE, 4),), (AFTER, 4)),
    Scenario("new generation", ((BEFORE, 2), (BEFORE, 3)), (AFTER, 4)),
)


@dataclass(frozen=True)
class Kill:
    """Where a run is killed."""

    kind: str
    """stage, call, file, change, request, request done, seconds."""
    at: float

    @property
    def stop(self) -> dict[str, float] | None:
        """What the launcher is to know of it; requests are counted by servers."""
        return None if self.kind.startswith("request") else {self.kind.replace("stage", "call"): self.at}


@dataclass
class Row:
    """A row of the table: what was done, and what came of it."""

    store: str
    scenario: str
    kind: str
    killed: int = 0
    ended: int = 0
    """Runs that were through before they were to be killed."""
    lost: int = 0
    """Documents that readers of the live generation ought to find whole, and could not."""
    twice: int = 0
    """Passages embedded twice, at the most in one case."""
    wrong: list[str] = field(default_factory=list)


class Bench:
    """A store and a scenario: one case after the other, each from the same beginning."""

    def __init__(self, launcher: Launcher, place: Place, empty: Restore, scenario: Scenario, folder: Path) -> None:
        self._launcher, self._place, self._scenario = launcher, place, scenario
        self._template, self._folder = folder / "template", folder / "case"
        empty()
        self._folder.mkdir(parents=True)
        for run in scenario.before:
            outcome = self.run(["ingest"], run=run)
            assert not outcome.refused, outcome.refused
        self._folder.rename(self._template)
        self._restore = place.snapshot()
        with self.case():
            self.old = self.run(["read"]).done[0]
            self._watch(None)
            self.clean = self.run(["ingest"], traced=True)
            assert not self.clean.refused, self.clean.refused
            self._requests = len(place.reaper.seen) if place.reaper else 0
            self._changes = sum(1 for _ in (self._folder / "lancedb").rglob("*"))
            self.expected = self.run(["read"]).done[0]

    def kills(self, kind: str, most: int) -> Iterator[Kill]:
        """Up to so many, evenly over the run; of kind `stage`: around the steps, and what they have the store do."""
        calls = self.clean.calls
        moments: Sequence[int] = {
            "stage": [at for at, label in enumerate(calls) if _is_turn(label) and calls.index(label) == at],
            "call": range(len(calls)),
            "file": range(len(self.clean.files)),
            "change": range(self._changes),
        }.get(kind, range(self._requests))
        step = max(1.0, len(moments) / most)
        for number in range(min(most, len(moments))):
            yield Kill(kind, moments[int(step * (number + 0.5))] + 1)

    def tried(self, kills: Sequence[Kill], row: Row) -> None:
        """One case: runs are killed, readers look after each, the next run comes. What is wrong is noted in the row."""
        wrong, embedded, where = [], 0, []
        with self.case():
            for kill in kills:
                self._watch(kill)
                died = self.run(["ingest"], kill.stop, traced=True)
                self._watch(None)
                row.killed += died.killed
                row.ended += not died.killed
                embedded += died.embedded
                where.append(f"{kill.kind} {kill.at:g} ({died.calls[-1] if died.calls else 'before the first call'})")
                wrong += self._seen_by_readers(self.run(["read"]), row)
            rerun = self.run(["ingest", "read"])
            wrong += [rerun.refused] if rerun.refused else self._found_afterwards(*rerun.done)
            if not rerun.refused:
                twice = embedded + rerun.done[0]["counts"]["embedded"] - self.clean.embedded
                row.twice = max(row.twice, twice)
                wrong += [f"{twice} passages were embedded twice"] if twice > BATCH * len(kills) else []
        row.wrong += [f"{', '.join(where)}: {what}" for what in wrong]

    def _seen_by_readers(self, reading: Outcome, row: Row) -> list[str]:
        """What is wrong with the live generation after the kill."""
        if reading.refused:
            return [reading.refused]
        (found,) = reading.done
        old, new, live = self.old["live"], self.expected["live"], found["live"]
        if live not in (old, new):
            return [f"{live} is live, wanted {old} or {new}"]
        if live is None:
            return []
        stored = _by_document(found["rows"][live])
        versions = [_by_document(state["rows"][state["live"]]) for state in (self.old, self.expected) if state["live"]]
        if old != new:  # one or the other, whole
            versions = [versions[-1 if live == new else 0]]
        wanted = set.intersection(*map(set, versions))
        lost = [key for key in wanted if not any(version[key] <= stored.get(key, set()) for version in versions)]
        row.lost += len(lost)
        wrong = [f"live lacks {', '.join(sorted(lost))}"] if lost else []
        if old != new and stored != versions[0]:
            wrong.append("live holds other rows than it should")
        if found["found"][:1] != ["doc-00012"]:
            wrong.append(f"a search of live found {found['found']}")
        return wrong

    def _found_afterwards(self, report: dict[str, Any], found: dict[str, Any]) -> list[str]:
        """What is wrong after the next run."""
        wrong = []
        for name in ("live", "found"):
            if found[name] != self.expected[name]:
                wrong.append(f"{name} is {found[name]}, wanted {self.expected[name]}")
        if found["rows"] != self.expected["rows"]:
            wrong.append(f"rows differ from a clean run's: {_difference(found['rows'], self.expected['rows'])}")
        about, expected = (state["generations"].get(self.expected["live"], {}) for state in (found, self.expected))
        for name in ("metrics", "rows", "documents", "questions_digest", "index", "vector_space"):
            if about.get(name) != expected.get(name):
                wrong.append(f"the description says {name} = {about.get(name)}, wanted {expected.get(name)}")
        staging = self._folder / "staging"
        if left := [str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file()]:
            wrong.append(f"left in staging: {', '.join(left)}")
        if report["counts"]["passages"] != self.clean.done[0]["counts"]["passages"]:
            wrong.append(f"the report counts {report['counts']}")
        return wrong

    @contextmanager
    def case(self) -> Iterator[None]:
        """From the beginning, and nothing left of it afterwards."""
        self._watch(None)
        self._restore()
        shutil.copytree(self._template, self._folder)
        yield
        shutil.rmtree(self._folder)

    def _watch(self, kill: Kill | None) -> None:
        if self._place.reaper:
            requests = kill is not None and kill.kind.startswith("request")
            self._place.reaper.watch(int(kill.at) if kill and requests else None, bool(kill) and "done" in kill.kind)

    def run(
        self,
        actions: list[str],
        stop: dict[str, float] | None = None,
        traced: bool = False,
        run: tuple[list[dict[str, Any]], int] | None = None,
    ) -> Outcome:
        """What comes of actions, by default with the corpus and the settings of the run that is killed."""
        corpus, overlap = run or self._scenario.after
        folder = self._folder
        values = {
            "collection": "books",
            "embedding.service": "hashing",
            "embedding.hashing.dimension": 64,
            "store.name": self._place.name,
            "ingest.staging": str(folder / "staging"),
            "ingest.batch_passages": BATCH,
            "ingest.shard_passages": 10,
            "cache.path": str(folder / "cache"),
            "passages.max_tokens": 16,
            "passages.overlap_tokens": overlap,
            "source.columns.metadata": ["kind"],
            **self._place.values(folder),
            **write_corpus(folder / "corpus.jsonl", corpus),
        }
        order = {"actions": actions, "values": values, "environment": self._place.environment, "stop": stop}
        return self._launcher.run(order | {"traced": traced, "root": str(folder), "watched": str(folder / "lancedb")})


def _is_turn(label: str) -> bool:
    """Whether the call is a step, or changes what a store holds."""
    name = label.partition(" ")[2]
    return name in STEPS or ("/store." in name and name.rpartition(".")[2] in TURNS)


def _by_document(rows: dict[str, dict[str, Any]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key, row in rows.items():
        found.setdefault(row["document_id"], set()).add(key)
    return found


def _difference(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> str:
    if set(found) != set(expected):
        return f"generations {sorted(found)}, wanted {sorted(expected)}"
    parts = []
    for name in expected:
        kinds = Counter(
            "missing" if key not in found[name] else "too much" if key not in expected[name] else "other"
            for key in set(found[name]) | set(expected[name])
            if found[name].get(key) != expected[name].get(key)
        )
        if kinds:
            parts.append(f"{name}: {dict(kinds)}")
    return "; ".join(parts)
