"""Readers and writers in processes of their own: a reader sees complete generations only, writers lose nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from squadron.generations.live_pointer import promote_generation, rollback
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run
from squadron.runs.results import Plan
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from squadron.staging import shards as staging
from tests.faults.corpora import AFTER, clean_rows, settings_of
from tests.whole_runs import stored_rows

pytestmark = pytest.mark.slow

BLUE, GREEN = range(40), range(100, 170)
SEARCHING = """
import json, sys, threading
from collections import Counter
from squadron.generations.search import search
from squadron.settings.schema import Settings

settings, ended, seen, last = Settings.model_validate_json(sys.argv[1]), threading.Event(), Counter(), None
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
while not ended.is_set():
    try:
        answer = json.dumps(sorted(match["document_id"] for match in search(settings, "Which thing?", top_k=500)))
    except Exception as error:
        answer = json.dumps(repr(error))
    seen[answer] += 1
    if answer != last:
        print(json.dumps([answer]), flush=True)
        last = answer
print(json.dumps(seen), flush=True)
"""


class Reader:
    """A process that searches all the time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def next_answer(self) -> Any:
        """What it is answered, once that is another answer than before."""
        assert self._process.stdout
        return json.loads(json.loads(self._process.stdout.readline())[0])

    def all_answers(self) -> dict[str, int]:
        """End it: how often each answer came."""
        out, _ = self._process.communicate(timeout=120)
        return json.loads(out.splitlines()[-1])


@contextmanager
def reader(settings: Settings) -> Iterator[Reader]:
    command = [sys.executable, "-W", "ignore", "-c", SEARCHING, settings.model_dump_json()]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Reader(process)
    finally:
        process.kill()
        process.wait()


def documents(numbers: range) -> list[str]:
    return [f"doc-{number:05d}" for number in numbers]


def test_a_reader_meets_complete_generations_only_whatever_is_promoted_or_rolled_back(tmp_path: Path) -> None:
    # Not 1.0: then what left the corpus, here all of it, would leave the generation to return to as well.
    free = {"guard.max_deleted_fraction": 0.99, "gate.max_drop": 1.0}
    blue = settings_of(tmp_path, BLUE, **free)
    ingest(blue)
    with reader(blue) as process:
        seen = [process.next_answer()]
        green = settings_of(tmp_path, GREEN, **free, **{"passages.template": "plain_v1"})
        built = ingest(green)
        seen.append(process.next_answer())
        for _ in range(3):
            rollback(blue)
            seen.append(process.next_answer())
            promote_generation(blue, built["generation"])
            seen.append(process.next_answer())
        answers = process.all_answers()

    assert seen == [documents(BLUE), documents(GREEN)] * 4
    assert {len(json.loads(answer)) for answer in answers} == {len(BLUE), len(GREEN)}
    assert sum(answers.values()) >= len(seen)


def ingested(values: str, plan: dict[str, Any], shard: dict[str, Any]) -> int:
    """What a worker does with one mapped task; rows written."""
    made, piece = Plan(**plan), staging.Shard(**shard)
    return ingest_shard(Settings.model_validate_json(values), made, piece).written


def test_shards_that_several_processes_write_at_once_and_some_of_them_twice_are_as_a_clean_build(
    tmp_path: Path,
) -> None:
    settings = settings_of(tmp_path, AFTER, **{"ingest.shard_passages": 40, "ingest.batch_passages": 10})
    plan = plan_run(settings, "run")
    told = {**vars(plan), "shards": []}
    shards = [vars(shard) for shard in plan.shards]

    # The last one is of a task that was given up for dead and tried again, while its first try was still at work.
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as workers:
        tasks = [workers.submit(ingested, settings.model_dump_json(), told, shard) for shard in [*shards, shards[-1]]]
        written = [task.result(timeout=300) for task in tasks]
    finish(settings, plan)

    assert written == [40, 40, 40, 20, 20]
    assert stored_rows(settings, plan.generation) == clean_rows(tmp_path, AFTER)
