"""What a run of the tests leaves to others: a line before pytest's summary says how many tests, and how to run them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

VARIATIONS = (
    ("tests/corpus/test_held_back.py", "whichever_line"),
    ("tests/crashes/test_crash_matrix.py", "lancedb", "new generation"),
    ("tests/crashes/test_crash_matrix.py", "lancedb-file"),
    ("tests/crashes/test_crash_matrix.py", "rollback_that_was_killed"),
    ("tests/dags/test_absent_package.py", "web_server_starts"),
    ("tests/dags/test_dag.py", "twice_embeds_once"),
    ("tests/dags/test_scheduler.py", "test_a_failed_run"),
    ("tests/dags/test_scheduler.py", "test_an_unknown_setting"),
    ("tests/dags/test_swap.py", "may_change_no_variable"),
    ("tests/embeddings/local/test_openvino_engine.py", "int8_is_near_enough"),
    ("tests/faults/test_hostile_documents.py", "[pinecone]"),
    ("tests/faults/test_hostile_documents.py", "[weaviate]"),
    ("tests/faults/test_outages.py", ""),
    ("tests/plugins/test_page.py", "imports_no_web_framework"),
    ("tests/project/test_audit.py", ""),
    ("tests/project/test_compose.py", "options_and_commands"),
    ("tests/project/test_imports.py", "no_fcntl"),
    ("tests/project/test_left_out.py", "slow-2"),
    ("tests/runs/test_sequences.py", ""),
    ("tests/sources/test_hub_away.py", "without_the_retries"),
    ("tests/sources/test_hub_revision.py", "offline_too"),
    ("tests/sources/test_hub_revision.py", "never_another"),
    ("tests/sources/test_hub_revision.py", "no_longer_has"),
    ("tests/sources/test_limits.py", "csv-bz2"),
    ("tests/sources/test_limits.py", "bomb"),
    ("tests/sources/test_sources.py", "not_needed_twice"),
    ("tests/stores/test_pgvector.py", "connection_that_the_server_ended"),
    ("tests/stores/test_pinecone_faults.py", ""),
    ("tests/stores/test_weaviate_faults.py", ""),
    ("tests/terminal/test_command_line.py", "another_template"),
)
"""Slow ones beside those that bear the marker: a part of their names. They vary what others show, or take long."""
HOW = {"slow": "make test-all", "exhaustive": "-m exhaustive"}
_COUNTS = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is left out yet."""
    config.stash[_COUNTS] = Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes many minutes runs when it is asked for: `-m exhaustive`. Variations get the marker `slow`."""
    for item in items:
        if any(all(part in item.nodeid for part in parts) for parts in VARIATIONS):
            item.add_marker("slow")
    if "exhaustive" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("exhaustive")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count them by their marker."""
    for item in items:
        for marker in ("exhaustive", "slow"):
            if item.get_closest_marker(marker):
                item.config.stash[_COUNTS][marker] += 1
                break


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of xdist tells the one that prints."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["left_out"] = dict(session.config.stash[_COUNTS])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """All processes of xdist have left out the same."""
    node.config.stash[_COUNTS] |= Counter(getattr(node, "workeroutput", {}).get("left_out", {}))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The line."""
    counts = config.stash[_COUNTS]
    told = [f"{counts[marker]:,} {marker} tests with `{how}`" for marker, how in HOW.items() if counts[marker]]
    if told:
        terminalreporter.write_line(f"left to be run: {', '.join(told)}")
