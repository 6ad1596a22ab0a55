"""Memory: what glibc keeps of freed blocks, bounded; and how often Python looks for garbage."""

import atexit
import gc
import sys

# <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_MEBIBYTE = 1 << 20
_OBJECTS_PER_COLLECTION = 100_000


def bound_heap() -> None:
    """Let this process give memory back: two arenas instead of eight per core, trimmed above 32 MiB.

    The stores' and engines' threads would else each hold on to an arena of freed blocks: building an index over
    189,000 vectors left 640 MB resident, and leaves 390 MB so (benchmarks/memory.py). Elsewhere than on glibc
    this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes  # `--help` needs none

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, 32 * _MEBIBYTE)
        mallopt(_M_TRIM_THRESHOLD, 32 * _MEBIBYTE)


def collect_rarely() -> None:
    """Let this process look for garbage every 100,000 new objects instead of every 700, and not when it ends.

    Imports alone make some 300,000 objects that stay, and are looked at again and again: a fifth of the processor time
    of a run that has nothing to do (benchmarks/startup.py). Graph collects what its executions leave behind itself.
    For processes of our own, that is the command line's.
    """
    gc.set_threshold(_OBJECTS_PER_COLLECTION, 10, 10)
    atexit.register(gc.freeze)
