"""What a run of the tests leaves to others: a line before pytest's summary says how many tests, and how to run them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

HOW = {"slow": "make test-all", "exhaustive": "-m exhaustive"}
_COUNTS = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Nothing is left out yet."""
    config.stash[_COUNTS] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes many minutes runs when it is asked for: `-m exhaustive`."""
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
