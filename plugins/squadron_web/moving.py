"""Moving: promote and rollback, by users who may trigger the DAG; each is written into Airflow's audit log."""

import json
from collections.abc import Callable
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models import Log
from airflow.utils.session import create_session
from fastapi import APIRouter, Body, Depends, HTTPException
from pydantic import BaseModel

from squadron_web.access import from_this_page, may_move
from squadron_web.known_collections import pointer, readable, settings_of
from squadron_web.waiting import apart

moving = APIRouter(prefix="/api/collections", dependencies=[Depends(from_this_page)])


class Move(BaseModel):
    """A move away from the generation that the user saw live."""

    expected_live: str | None


class Promote(Move):
    """Which generation is to be live."""

    generation: str


@moving.post("/{collection}/promote")
@apart
def promote(collection: str, move: Annotated[Promote, Body()], user: GetUserDep) -> dict[str, Any]:
    """Make a generation live; no gate is asked."""
    from squadron.generations.catalog import promote_generation

    return _moved(collection, move, user, "promote", lambda settings: promote_generation(settings, move.generation))


@moving.post("/{collection}/rollback")
@apart
def rollback(collection: str, move: Annotated[Move, Body()], user: GetUserDep) -> dict[str, Any]:
    """Make the generation live again that was before."""
    from squadron.generations import catalog

    return _moved(collection, move, user, "rollback", catalog.rollback)


def _moved(collection: str, move: Move, user: Any, event: str, act: Callable[[Any], Any]) -> dict[str, Any]:
    """What is live after the move. It is refused when another generation is live than the user saw."""
    known = readable(collection, user)
    if not may_move(user, known.dag_id):
        raise HTTPException(403, f"to {event}, you must be allowed to trigger the DAG {known.dag_id!r}")
    settings = settings_of(known)
    live = pointer(settings)["generation"]
    if live != move.expected_live:
        raise HTTPException(409, f"{live} is live by now, not {move.expected_live}: look again before you {event}")
    done = act(settings)
    extra = json.dumps({"collection": collection, "live": done.live, "previous": done.previous})
    names = {"owner": user.get_name(), "owner_display_name": user.get_name()}
    with create_session(scoped=False) as session:
        session.add(Log(event=f"squadron_{event}", dag_id=known.dag_id, extra=extra, **names))
    return {"live": done.live, "previous": done.previous, "held": done.held}
