"""Side effects: a node that changes what a store holds bears a tag, which drawings of the graph show."""

from collections.abc import Callable
from typing import Any, TypeVar

from squadron.process.hamilton_runtime import tag

TAG = "side_effect"
"""The name of the tag; its value is `true`."""

_Node = TypeVar("_Node", bound=Callable[..., Any])


def side_effect(node: _Node) -> _Node:
    """Tag a store's node, and leave the function as it is."""
    tagged: _Node = tag(**{TAG: "true"})(node)
    return tagged
