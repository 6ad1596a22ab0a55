"""Crash tests: one launcher for all of them, and the table of what was tried."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.crashes.kills import Launcher

COLUMNS = ("store", "scenario", "kind", "killed", "ended", "lost", "twice", "wrong")
TITLES = ("store", "run", "killed at", "killed", "not", "documents lost", "embedded twice", "wrong")


@pytest.fixture(scope="session")
def launcher() -> Iterator[Launcher]:
    with Launcher() as launcher:
        yield launcher


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """A row for each store, scenario and kind of kill."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    called = [report for report in reports if getattr(report, "when", None) == "call"]
    rows = [value for report in called for name, value in report.user_properties if name == "crashes"]
    if not rows:
        return
    table = [TITLES, *(tuple(str(row[column]) for column in COLUMNS) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    terminalreporter.section("crashes")
    for line in table:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
