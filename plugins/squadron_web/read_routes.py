"""Routes that show collections whose DAG the user may see, and search them.

A search loads the collection's embedding model into the api-server, where it stays for the next search.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.utils.session import create_session
from fastapi import APIRouter, Body, Depends, HTTPException
from fastapi.responses import Response
from pydantic import BaseModel, Field

from squadron_web.access import from_this_page, may_move, may_read, may_read_runs
from squadron_web.history import DEFAULT_DAG, newest_runs, summary_of
from squadron_web.page_collections import page_collections, readable_collection, settings_of
from squadron_web.responses import (
    CollectionDetails,
    CollectionList,
    CollectionName,
    GenerationDetails,
    Match,
    MatchList,
    QuarantineEntry,
    QuarantineList,
    RecordFields,
    RunList,
)
from squadron_web.thread_pool import in_own_thread

if TYPE_CHECKING:
    from squadron.generations.record import GenerationRecord

QUARANTINE_ROWS = 200

read_routes = APIRouter(prefix="/api/collections")


class Question(BaseModel):
    """What to search for."""

    question: str = Field(max_length=10_000)
    top_k: int = Field(10, ge=1, le=50)


@read_routes.get("")
@in_own_thread
def collections(user: GetUserDep) -> CollectionList:
    """The collections whose DAG the user may see, the default one first."""
    names = [
        CollectionName(collection=each.collection, dag_id=each.dag_id)
        for each in page_collections()
        if may_read(user, each.dag_id)
    ]
    return CollectionList(collections=names)


@read_routes.get("/{collection}")
@in_own_thread
def generations(collection: str, user: GetUserDep) -> CollectionDetails:
    """The collection's generations in its store, newest first, and whether the user may move what is live."""
    page_collection = readable_collection(collection, user)
    from squadron.generations.catalog import Generations
    from squadron.generations.live_pointer import live_and_previous

    settings = settings_of(page_collection)
    catalog = Generations.of(settings)
    return CollectionDetails(
        collection=collection,
        dag_id=page_collection.dag_id,
        store=settings.store.name,
        source=settings.source.name,
        service=settings.embedding.service,
        previous=live_and_previous(catalog).previous,
        may_move=may_move(user, page_collection.dag_id),
        generations=[_details(catalog[name], name, name == catalog.live) for name in catalog.newest_first()],
    )


@read_routes.get("/{collection}/runs")
@in_own_thread
def runs(collection: str, user: GetUserDep) -> RunList:
    """The newest runs about the collection, newest first: of its own DAG, and of the one that takes any collection."""
    dag_id = readable_collection(collection, user).dag_id
    dags = [dag for dag in {dag_id, DEFAULT_DAG} if may_read(user, dag) and may_read_runs(user, dag)]
    if not dags:
        raise HTTPException(403, f"to see runs, you must be allowed to read those of the DAG {dag_id!r}")
    with create_session(scoped=False) as session:
        newest = newest_runs(session, dags)
    return RunList(runs=[summary_of(run) for run in newest if run.collection == collection])


@read_routes.get("/{collection}/quarantine")
@in_own_thread
def quarantined(collection: str, user: GetUserDep) -> QuarantineList:
    """What could not be read or embedded, and why."""
    page_collection = readable_collection(collection, user)
    from squadron.corpus import quarantine

    rows = quarantine.listed(settings_of(page_collection))
    entries = [QuarantineEntry.model_validate(row) for row in rows[:QUARANTINE_ROWS]]
    return QuarantineList(total=len(rows), quarantined=entries)


@read_routes.get("/{collection}/graph.svg")
@in_own_thread
def graph(collection: str, user: GetUserDep) -> Response:
    """The Hamilton graph of the collection's backends, drawn by Graphviz."""
    page_collection = readable_collection(collection, user)
    from squadron.dataflow.driver import draw

    with TemporaryDirectory() as folder:
        path = Path(folder, "graph.svg")
        draw(settings_of(page_collection), path)
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}
        return Response(path.read_bytes(), media_type="image/svg+xml", headers=headers)


@read_routes.post("/{collection}/search", dependencies=[Depends(from_this_page)])
@in_own_thread
def search(collection: str, asked: Annotated[Question, Body()], user: GetUserDep) -> MatchList:
    """The passages of the live generation nearest to the question."""
    page_collection = readable_collection(collection, user)
    from squadron.generations.search import search

    rows = search(settings_of(page_collection), asked.question, asked.top_k)
    return MatchList(matches=[Match.model_validate(row) for row in rows])


def _details(record: "GenerationRecord", generation: str, live: bool) -> GenerationDetails:
    from squadron.dataflow.vector_space import fingerprint

    return GenerationDetails(
        generation=generation,
        live=live,
        fingerprint=fingerprint(record.vector_space) if record.vector_space else None,
        **record.model_dump(include=set(RecordFields.model_fields)),
    )
