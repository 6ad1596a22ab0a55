"""Scenarios: what goes wrong, one function each. A scheduler's answer to every failure is to run again, once."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.faults.site import Run, Site
from benchmarks.peers import corpora
from benchmarks.peers.reading import Verdict


@dataclass(frozen=True)
class Outcome:
    """What a fault did."""

    survived: bool
    lost: int
    """Documents that readers miss because of it: in between, or for good."""
    again: int
    """Texts embedded more often than needed."""
    runs: tuple[Run, ...]
    in_between: Verdict | None
    """The store after the run that met the fault, against what it can hold at the best."""
    at_last: Verdict
    """The store after the run that met none."""

    def __str__(self) -> str:
        exits = " → ".join(str(run.exit_code) for run in self.runs)
        lost = f", {self.lost} lost" if self.lost else ""
        left = "" if self.at_last.faultless else f", left: {self.at_last}"
        return f"{'yes' if self.survived else '**no**'}{lost}{left}; {self.again} again; exit {exits}"


def table_dropped(site: Site) -> Outcome:
    """The table is dropped; then the nightly run."""
    site.synced()
    site.drop_table()
    run = site.run(site.documents)
    found = site.verdict(site.documents)
    return Outcome(found.faultless, found.missing, run.texts, (run,), None, found)


def rows_deleted(site: Site) -> Outcome:
    """The rows of ten documents are deleted behind the tool's back; then the nightly run."""
    site.synced()
    site.delete_rows([site.documents[n] for n in _ten(site)])
    run = site.run(site.documents)
    found = site.verdict(site.documents)
    return Outcome(found.faultless, found.missing, run.texts, (run,), None, found)


def poison(site: Site) -> Outcome:
    """The service refuses one document of the corpus: do the others arrive? Later it takes it."""
    site.empty()
    poisoned = site.documents[len(site.documents) * 3 // 4]
    site.server.refused = {poisoned["text"]}
    first = site.run(site.documents)
    others = [document for document in site.documents if document is not poisoned]
    in_between = site.verdict(others)
    site.heal()
    second = site.run(site.documents)
    found = site.verdict(site.documents)
    again = first.texts + second.texts - len(site.documents)
    lost = max(in_between.missing, found.missing)
    return Outcome(not lost and found.faultless, lost, max(0, again), (first, second), in_between, found)


def outage(site: Site) -> Outcome:
    """The service answers four requests with 503; then a retry, if the run failed."""
    site.empty()
    site.server.faults.add("embeddings", times=4, status=503)
    runs = [site.run(site.documents)]
    if runs[0].exit_code:
        runs.append(site.run(site.documents))
    found = site.verdict(site.documents)
    again = sum(run.texts for run in runs) - len(site.documents)
    return Outcome(found.faultless, found.missing, max(0, again), tuple(runs), None, found)


def failed_change(site: Site) -> Outcome:
    """Ten documents have changed, and the service refuses the key: do readers keep the old ones until it works?"""
    site.synced()
    changed = corpora.edit(site.documents, _ten(site))
    site.server.key = "another"
    first = site.run(changed)
    in_between = site.verdict(site.documents)
    site.heal()
    second = site.run(changed)
    found = site.verdict(changed)
    lost = max(in_between.missing, found.missing)
    again = max(0, second.texts - 10)
    return Outcome(not lost and found.faultless, lost, again, (first, second), in_between, found)


def killed(site: Site) -> Outcome:
    """kill -9 when 70 % of the texts are embedded; then a retry."""
    site.empty()
    site.server.latency_seconds = 0.3
    first = site.run(site.documents, killed_after=len(site.documents) * 7 // 10)
    site.heal()
    second = site.run(site.documents)
    found = site.verdict(site.documents)
    again = first.texts + second.texts - len(site.documents)
    return Outcome(found.faultless, found.missing, max(0, again), (first, second), None, found)


def relabelled(site: Site) -> Outcome:
    """Metadata of all documents changes, and no text."""
    site.synced()
    labelled = corpora.relabel(site.documents)
    run = site.run(labelled)
    found = site.verdict(labelled)
    return Outcome(found.faultless and not run.texts, found.missing, run.texts, (run,), None, found)


SCENARIOS: dict[str, Callable[[Site], Outcome]] = {
    "table dropped": table_dropped,
    "ten rows deleted": rows_deleted,
    "one poison document": poison,
    "four requests fail": outage,
    "key refused while ten documents change": failed_change,
    "kill -9 at 70 %": killed,
    "only metadata changes": relabelled,
}


def _ten(site: Site) -> set[int]:
    return corpora.spread(len(site.documents), 10, first=5)
