"""Backoff: how long to wait before a service or a store is asked again."""

import random

FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 30.0


def wait_seconds(failures: int, first: float = FIRST_WAIT_SECONDS, longest: float = LONGEST_WAIT_SECONDS) -> float:
    """How long to wait after so many failures in a row: doubled each time, half of it by chance.

    Chance keeps many clients from coming back together (Brooker, "Exponential Backoff And Jitter", AWS 2015).
    """
    most = min(longest, first * 2.0 ** min(failures - 1, 30))
    return most * random.uniform(0.5, 1.0)  # noqa: S311 - it keeps no secret
