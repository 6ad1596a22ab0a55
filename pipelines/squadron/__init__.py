"""Squadron keeps a vector index in step with a corpus. `squadron.Index` asks it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from squadron.index import Index, Match

__all__ = ["Index", "Match"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from squadron import index  # when it is asked for: the command line does without

    return getattr(index, name)
