"""The launcher: a process that has imported everything forks one that works, and has it killed where it is told to.

    python -m tests.crashes.launcher

It takes an order a line, as JSON: `actions` (see ACTIONS), `values` (settings), `environment`, whether it is to be
`traced`, and `stop`: null, or how the work is to end by SIGKILL:

    {"call": N}     at the N-th time that a function of ours begins or returns; traced
    {"file": N}     before the N-th change that Python makes to a file below `root`; traced
    {"change": N}   when N files and folders were seen below `watched`, which native code writes
    {"seconds": T}  after so long

Its first answer bears the process's id, its second what the process said before it was gone.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from select import select
from typing import Any

import squadron
from squadron.dataflow.driver import shared_graph
from squadron.embeddings.tokenization import cl100k
from squadron.errors import SquadronError
from squadron.generations import search as searching
from squadron.generations.catalog import Generations
from squadron.generations.live_pointer import rollback
from squadron.runs import whole_run
from squadron.settings.layers import Layer, resolve
from squadron.settings.registry import REGISTRIES, load
from squadron.settings.schema import Settings
from squadron.staging import shards as staging  # noqa: F401 - imported before any fork

PACKAGE = str(Path(squadron.__file__).parent)
# Where state is changed, and decided on; what is called thousands of times and changes nothing is not among them.
WATCHED = tuple(
    f"{PACKAGE}/{name}"
    for name in ("runs/", "generations/", "staging/", "cache/", "dataflow/cached_", "corpus/", "stores/")
)
# Called thousands of times, and changing nothing.
PURE = {
    "text_digest",
    "text_digests",
    "_check",
    "quoted",
    "equal",
    "folder",
    "exists",
    "reported",
    "_reported",
    "refuse_other",
}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
Say = Callable[[str, Any], None]


def main() -> None:
    """Obey until there are no more orders."""
    modules = [("sources", "files"), ("embeddings", "hashing"), ("embeddings", "openai")]
    for registry, name in [*modules, *(("stores", name) for name in REGISTRIES["stores"])]:
        load(registry, name)
    cl100k()
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            os.close(reading)
            _work(order, writing)
        os.close(writing)
        _answer({"pid": process})
        said = list(_heard(reading, process, order))
        _, status = os.waitpid(process, 0)
        _answer({"killed": os.WIFSIGNALED(status), "said": said})


def _answer(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _heard(reading: int, process: int, order: dict[str, Any]) -> Iterator[Any]:
    """What the process says until it is gone; it is killed when the time or the watched folder says so."""
    stop, began, seen, text = order["stop"] or {}, time.monotonic(), set[str](), b""
    pause = 0.0005 if "change" in stop else 0.005 if "seconds" in stop else None
    while True:
        if select([reading], [], [], pause)[0]:
            part = os.read(reading, 1 << 20)
            if not part:
                break
            text += part
            continue
        if "change" in stop:
            seen.update(_names(order["watched"]))
        if len(seen) >= stop.get("change", sys.maxsize) or time.monotonic() - began > stop.get("seconds", sys.maxsize):
            os.kill(process, signal.SIGKILL)
            pause = None
    os.close(reading)
    yield from (json.loads(line) for line in text.splitlines())


def _names(folder: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            yield entry.path
            if entry.is_dir():
                yield from _names(entry.path)


def _work(order: dict[str, Any], writing: int) -> None:
    """In the new process: the actions, and what came of them."""
    began = time.monotonic()
    for number in (0, 1):  # the order's and the answer's
        os.dup2(os.open(os.devnull, os.O_RDWR), number)

    def say(kind: str, what: Any) -> None:
        text = json.dumps([kind, what]).encode() + b"\n"
        while text:
            text = text[os.write(writing, text) :]

    try:
        os.environ.update(order["environment"])
        settings = resolve([Layer("order", order["values"], Path("/"))]).settings
        stop = order["stop"] or {}
        if order["traced"]:
            _watch_files(order["root"], stop.get("file"), say)
            _watch_calls(stop.get("call"), say)
        for action in order["actions"]:
            say("done", ACTIONS[action](settings))
        say("seconds", time.monotonic() - began)
    except SquadronError as error:
        say("refused", f"{type(error).__name__}: {error}")
    except BaseException:
        traceback.print_exc()  # into the launcher's log
    os._exit(0)


def _watch_calls(stop: int | None, say: Say) -> None:
    numbers = count(1)

    def note(frame: Any, event: str, given: Any) -> None:
        code = frame.f_code
        if event not in ("call", "return") or code.co_name.startswith("<") or code.co_name in PURE:
            return
        if code.co_name == "embeddings" and event == "return" and given is not None and _is_of_cache(frame):
            say("embedded", len(given))
        if code.co_filename.startswith(WATCHED):
            where = f"{event} {code.co_filename.removeprefix(PACKAGE + '/').removesuffix('.py')}.{code.co_name}"
            say("call", where)
            if next(numbers) == stop:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(note)
    sys.setprofile(note)


def _is_of_cache(frame: Any) -> bool:
    """Whether the vectors are passages', which are kept, and not those that a model is tried with."""
    while frame and frame.f_code.co_name != "cached_vectors":
        frame = frame.f_back
    return bool(frame)


def _watch_files(root: str, stop: int | None, say: Say) -> None:
    numbers = count(1)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                return
        elif event not in CHANGES:
            return
        if isinstance(arguments[0], str | os.PathLike) and str(arguments[0]).startswith(root):
            say("file", f"{event} {Path(arguments[0]).relative_to(root)}")
            if next(numbers) == stop:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)


def _read(settings: Settings) -> dict[str, Any]:
    """What the store holds: generations, rows with vectors, the live one; what a search finds."""
    graph = shared_graph(settings)
    catalog = Generations(graph)
    live = catalog.live
    rows = {}
    for name in catalog:
        table = graph.value("generation_table", generation=name, metadata_columns=())
        ids = [key for part in graph.value("stored_ids", generation_table=table) for key in part.to_pylist()]
        found = graph.value("stored_rows", generation_table=table, wanted_ids=_strings(ids)).to_pylist()
        by_id = {row["id"]: row | {"vector": [round(x, 4) for x in row["vector"]]} for row in found}
        assert len(ids) == len(by_id), f"{name} lists {len(ids)} ids, and holds {len(by_id)} rows"
        rows[name] = by_id
    return {
        "live": live,
        "generations": {name: record.model_dump(mode="json") for name, record in catalog.items()},
        "rows": rows,
        "found": live and [match["document_id"] for match in searching.search(settings, "size12 colour12", top_k=2)],
    }


def _strings(values: list[str]) -> Any:
    import pyarrow as pa

    return pa.array(values, pa.string())


ACTIONS: dict[str, Callable[[Settings], Any]] = {
    "ingest": whole_run.ingest,
    "rollback": lambda settings: vars(rollback(settings)),
    "read": _read,
}


if __name__ == "__main__":
    main()
