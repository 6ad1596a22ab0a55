"""Routes that move what is live: promote and rollback, for users who may trigger the DAG.

Each move is written into Airflow's audit log.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models import Log
from airflow.utils.session import create_session
from fastapi import APIRouter, Body, Depends, HTTPException
from pydantic import BaseModel

from squadron.settings.schema import Settings
from squadron_web.access import from_this_page, may_move
from squadron_web.page_collections import readable_collection, settings_of
from squadron_web.responses import MoveResult
from squadron_web.thread_pool import in_own_thread

if TYPE_CHECKING:
    from squadron.generations.live_pointer import Promotion

move_routes = APIRouter(prefix="/api/collections", dependencies=[Depends(from_this_page)])


class Move(BaseModel):
    """A move away from the generation that the user saw live."""

    expected_live: str | None


class Promote(Move):
    """A move to a generation."""

    generation: str


@move_routes.post("/{collection}/promote")
@in_own_thread
def promote(collection: str, move: Annotated[Promote, Body()], user: GetUserDep) -> MoveResult:
    """Make a generation live without the quality gate."""
    from squadron.generations.live_pointer import promote_generation

    return _moved(collection, move, user, "promote", lambda settings: promote_generation(settings, move.generation))


@move_routes.post("/{collection}/rollback")
@in_own_thread
def rollback(collection: str, move: Annotated[Move, Body()], user: GetUserDep) -> MoveResult:
    """Make the generation live again that was live before."""
    from squadron.generations.live_pointer import rollback as roll_back

    return _moved(collection, move, user, "rollback", roll_back)


def _moved(
    collection: str, move: Move, user: BaseUser, event: str, act: Callable[[Settings], "Promotion"]
) -> MoveResult:
    """Move, and log it. Refused when another generation is live than the user saw."""
    from squadron.generations.catalog import Generations

    page_collection = readable_collection(collection, user)
    if not may_move(user, page_collection.dag_id):
        raise HTTPException(403, f"to {event}, you must be allowed to trigger the DAG {page_collection.dag_id!r}")
    settings = settings_of(page_collection)
    live = Generations.of(settings).live
    if live != move.expected_live:
        raise HTTPException(409, f"{live} is live by now, not {move.expected_live}: look again before you {event}")
    promotion = act(settings)
    _log_move(event, page_collection.dag_id, collection, promotion, user)
    return MoveResult(live=promotion.live, previous=promotion.previous, held=promotion.held)


def _log_move(event: str, dag_id: str, collection: str, promotion: "Promotion", user: BaseUser) -> None:
    extra = json.dumps({"collection": collection, "live": promotion.live, "previous": promotion.previous})
    name = user.get_name()
    entry = Log(event=f"squadron_{event}", dag_id=dag_id, extra=extra, owner=name, owner_display_name=name)
    with create_session(scoped=False) as session:
        session.add(entry)
