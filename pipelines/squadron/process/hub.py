"""The Hugging Face Hub: whether it answers; and its clients, which are set offline where it does not."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

PAUSES_SECONDS = (0.5, 1.5)
"""Between the attempts to connect; after the last one the hub is away."""


class Hub(Enum):
    """What the hub does when it is asked."""

    ANSWERS = "answers"
    SILENT = "does not answer in time"
    AWAY = "cannot be connected to"


def hub_state(sleep: Callable[[float], None] = time.sleep) -> Hub:
    """Whether the hub answers, whatever it says. It is away, too, when its clients are set to be offline."""
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    from squadron.process.retries import retried

    if constants.is_offline_mode():
        return Hub.AWAY
    pauses = list(PAUSES_SECONDS)

    def pause(error: httpx2.ConnectError) -> float:
        if not pauses:
            raise error
        return pauses.pop(0)

    def request() -> None:
        get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)

    try:
        retried(request, httpx2.ConnectError, pause, sleep)
    except httpx2.ConnectError:
        return Hub.AWAY
    except httpx2.TimeoutException:
        return Hub.SILENT
    except httpx2.HTTPError:
        return Hub.ANSWERS
    return Hub.ANSWERS


@contextmanager
def offline_while_away() -> Iterator[None]:
    """While the hub cannot be connected to, its clients are offline: else they retry for 23 s before they say so.

    A hub that is slow is left to the clients' own time-outs.
    """
    if hub_state() is not Hub.AWAY:
        yield
        return
    from huggingface_hub import constants

    modules = [constants, *(module.config for module in [sys.modules.get("datasets")] if module)]
    before = [module.HF_HUB_OFFLINE for module in modules]
    for module in modules:
        module.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for module, offline in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = offline
