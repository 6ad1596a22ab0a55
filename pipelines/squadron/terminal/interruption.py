"""Interruption: what Ctrl-C ends with, one line and the exit code that shells expect."""

import os
import sys
from typing import NoReturn

MESSAGE = "interrupted; started again, a run goes on from what is cached and written"
EXIT_CODE = 130
"""128 + SIGINT."""


def end_process() -> NoReturn:
    """Say so and end this process. Call it when all `finally` blocks have run.

    The interpreter's own ending waits for, or aborts in, threads of native libraries that still compute.
    """
    print(MESSAGE, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(EXIT_CODE)
