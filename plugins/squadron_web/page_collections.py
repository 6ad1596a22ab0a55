"""Collections of the page: which there are, which DAG keeps each, and the settings it is reached by."""

from contextlib import suppress
from dataclasses import dataclass

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.models import Connection, Variable
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.utils.session import create_session
from fastapi import HTTPException
from pydantic import JsonValue, ValidationError

from squadron.airflow_support.connections import apply_connections
from squadron.airflow_support.variables import variable_layers
from squadron.errors import SettingsError
from squadron.settings.home import home
from squadron.settings.layers import DEFAULT_COLLECTION, Layer, collections, resolve
from squadron.settings.schema import Settings, SourceSettings
from squadron.settings.store_sections import hurried
from squadron_web.access import may_read
from squadron_web.history import DEFAULT_DAG, ingest_dags, newest_runs

STORE_SECONDS = 5
"""How long the page waits for a store that does not answer."""


@dataclass(frozen=True)
class PageCollection:
    """A collection, and the DAG that keeps it."""

    collection: str
    dag_id: str
    is_default: bool
    """Whether the DAG `vector_ingest` ingests it when a run names no other."""
    last_settings: dict[str, JsonValue] | None
    """Of its newest run, for a collection that only run params name."""


def page_collections() -> list[PageCollection]:
    """The default collection, those with a file in `config/`, and those of recent runs."""
    with create_session(scoped=False) as session:
        dags = ingest_dags(session)
        runs = newest_runs(session, dags)
    settings_of_runs: dict[str, dict[str, JsonValue]] = {}
    for run in runs:
        if run.collection:
            settings_of_runs.setdefault(run.collection, run.settings)
    try:
        default = resolve(_layers(None)).settings.collection
    except SettingsError:  # whoever asks for the collection's settings sees the error
        default = DEFAULT_COLLECTION
    configured = set(collections())
    names = [default, *sorted((configured | settings_of_runs.keys()) - {default})]
    return [
        PageCollection(
            name, _dag_of(name, dags), name == default, None if name in configured else settings_of_runs.get(name)
        )
        for name in names
    ]


def readable_collection(collection: str, user: BaseUser) -> PageCollection:
    """The collection, if it exists and the user may read its DAG. Otherwise 404: the answer gives no name away."""
    for page_collection in page_collections():
        if page_collection.collection == collection and may_read(user, page_collection.dag_id):
            return page_collection
    raise HTTPException(404, f"there is no collection {collection!r} that you may see")


def settings_of(page_collection: PageCollection) -> Settings:
    """The settings that the collection is reached by; secrets of its backends are put into the environment.

    A collection without a file, which run params made, is where its newest run left it. That run's settings are
    trusted no more than params are; only its corpus may be anywhere, because the page does not read it.
    """
    layers = [
        *_layers(page_collection.collection),
        Layer("page", {"collection": page_collection.collection}, home()),
    ]
    last = page_collection.last_settings
    if last and not page_collection.is_default:
        without_source = {name: value for name, value in last.items() if name != "source"}
        settings = resolve([*layers, Layer("its newest run", without_source, home(), trusted=False)]).settings
        with suppress(ValidationError):  # another version wrote it
            settings = settings.model_copy(update={"source": SourceSettings.model_validate(last.get("source"))})
    else:
        settings = resolve(layers).settings
    settings = apply_connections(settings, _connection)
    return settings.model_copy(update={"store": hurried(settings.store, STORE_SECONDS)})


def _connection(name: str) -> Connection | None:
    try:
        return Connection.get_connection_from_secrets(name)
    except AirflowNotFoundException:
        return None


def _layers(collection: str | None) -> list[Layer]:
    return variable_layers(lambda name: Variable.get(name, default_var=None), collection)


def _dag_of(collection: str, dags: list[str]) -> str:
    own = f"{DEFAULT_DAG}_{collection}"
    return own if own in dags else DEFAULT_DAG
