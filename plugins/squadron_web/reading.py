"""Reading: what the page shows of the collections whose DAG the user may see.

A search loads the collection's embedding model into the api-server, where it stays for the next.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.utils.session import create_session
from fastapi import APIRouter, Body, Depends, HTTPException
from fastapi.responses import Response
from pydantic import BaseModel, Field

from squadron_web.access import from_this_page, may_move, may_read, may_read_runs
from squadron_web.history import DEFAULT_DAG, newest_runs, shown
from squadron_web.known_collections import known_collections, pointer, readable, settings_of
from squadron_web.waiting import apart

SHOWN = (
    *("generation", "live", "created_at", "updated_at", "rolled_back_at", "vector_space", "dimension", "rows"),
    *("documents", "metrics", "questions", "asked", "index"),
)
QUARANTINE_ROWS = 200

reading = APIRouter(prefix="/api/collections")


class Question(BaseModel):
    """What to search for."""

    question: str = Field(max_length=10_000)
    top_k: int = Field(10, ge=1, le=50)


@reading.get("")
@apart
def collections(user: GetUserDep) -> dict[str, Any]:
    """The collections whose DAG the user may see, the default one first."""
    found = [known for known in known_collections() if may_read(user, known.dag_id)]
    return {"collections": [{"collection": known.collection, "dag_id": known.dag_id} for known in found]}


@reading.get("/{collection}")
@apart
def generations(collection: str, user: GetUserDep) -> dict[str, Any]:
    """The collection's generations in its store, newest first, and whether the user may move what is live."""
    known = readable(collection, user)
    from squadron.dataflow.vector_space import fingerprint
    from squadron.generations import catalog

    settings = settings_of(known)
    rows = [{name: row.get(name) for name in SHOWN} for row in catalog.generations(settings)]
    for row in rows:
        row["fingerprint"] = fingerprint(row["vector_space"]) if row["vector_space"] else None
    return {
        "collection": collection,
        "dag_id": known.dag_id,
        "store": settings.store.name,
        "source": settings.source.name,
        "service": settings.embedding.service,
        "previous": pointer(settings)["previous"],
        "may_move": may_move(user, known.dag_id),
        "generations": rows,
    }


@reading.get("/{collection}/runs")
@apart
def runs(collection: str, user: GetUserDep) -> dict[str, Any]:
    """The newest runs about the collection, newest first: of its own DAG, and of the one that takes any collection."""
    known = readable(collection, user)
    dags = [dag for dag in {known.dag_id, DEFAULT_DAG} if may_read(user, dag) and may_read_runs(user, dag)]
    if not dags:
        raise HTTPException(403, f"to see runs, you must be allowed to read those of the DAG {known.dag_id!r}")
    with create_session(scoped=False) as session:
        found = newest_runs(session, dags)
    return {"runs": [shown(run) for run in found if run["collection"] == collection]}


@reading.get("/{collection}/quarantine")
@apart
def quarantined(collection: str, user: GetUserDep) -> dict[str, Any]:
    """What could not be embedded, and why."""
    known = readable(collection, user)
    from squadron.corpus import quarantine

    found = quarantine.listed(settings_of(known))
    return {"total": len(found), "quarantined": found[:QUARANTINE_ROWS]}


@reading.get("/{collection}/graph.svg")
@apart
def graph(collection: str, user: GetUserDep) -> Response:
    """The Hamilton graph of the collection's backends, drawn by Graphviz."""
    known = readable(collection, user)
    from squadron.dataflow.driver import draw

    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.svg")
        draw(settings_of(known), path)
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
        return Response(path.read_bytes(), media_type="image/svg+xml", headers=headers)


@reading.post("/{collection}/search", dependencies=[Depends(from_this_page)])
@apart
def search(collection: str, asked: Annotated[Question, Body()], user: GetUserDep) -> dict[str, Any]:
    """The passages of the live generation nearest to the question."""
    known = readable(collection, user)
    from squadron.generations import search as searching

    return {"matches": searching.search(settings_of(known), asked.question, asked.top_k)}
