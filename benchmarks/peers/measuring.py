"""Measuring: a command's seconds, by the clock and of processors, and the peak memory of the tree of its processes."""

import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

SECONDS_BETWEEN_LOOKS = 0.1


@dataclass(frozen=True)
class Measured:
    """A command that has ended."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    """Of all processors, user's and system's: what a busy machine changes less than the clock."""
    peak_megabytes: float
    """Resident, summed over the processes alive at a time; pages that they share count for each."""


def measured(command: list[str], environment: dict[str, str], log: Path) -> Measured:
    """Run a command; what it prints is added to the log."""
    started, cpu_before = time.monotonic(), _children_cpu_seconds()
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    peak = 0
    while True:
        peak = max(peak, _resident(process.pid))
        try:
            exit_code = process.wait(SECONDS_BETWEEN_LOOKS)
            break
        except subprocess.TimeoutExpired:
            continue
    cpu_seconds = _children_cpu_seconds() - cpu_before
    return Measured(exit_code, time.monotonic() - started, cpu_seconds, peak / 2**20)


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident(pid: int) -> int:
    total = 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total
