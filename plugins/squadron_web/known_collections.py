"""Known collections: which there are, which DAG keeps each, and the settings it is reached by."""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.exceptions import AirflowNotFoundException
from airflow.models import Connection, Variable
from airflow.utils.session import create_session
from fastapi import HTTPException
from pydantic import ValidationError

from squadron.airflow_support.variables import variable_layers
from squadron.errors import SettingsError
from squadron.settings.connections import with_address
from squadron.settings.credentials import wanted
from squadron.settings.home import home
from squadron.settings.layers import DEFAULT_COLLECTION, Layer, collections, resolve
from squadron.settings.schema import Settings, SourceSettings
from squadron.settings.store_sections import hurried
from squadron_web.access import may_read
from squadron_web.history import DEFAULT_DAG, ingest_dags, newest_runs

STORE_SECONDS = 5
"""For how long a store that is away is waited for, while somebody looks at the page."""


@dataclass(frozen=True)
class Known:
    """A collection, and the DAG that keeps it."""

    collection: str
    dag_id: str
    default: bool
    """What the DAG `vector_ingest` ingests when nobody says otherwise."""
    last_settings: dict[str, Any] | None
    """Of its newest run, for a collection that only run params name."""


def known_collections() -> list[Known]:
    """The default collection, those with a file in `config/`, and those that recent runs were about."""
    with create_session(scoped=False) as session:
        dags = ingest_dags(session)
        runs = newest_runs(session, dags)
    seen: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run["collection"]:
            seen.setdefault(run["collection"], run["settings"])
    try:
        default = resolve(_layers(None)).settings.collection
    except SettingsError:  # told where the collection's settings are asked for
        default = DEFAULT_COLLECTION
    configured = set(collections())
    names = [default, *sorted((configured | seen.keys()) - {default})]
    return [
        Known(name, _dag_of(name, dags), name == default, None if name in configured else seen.get(name))
        for name in names
    ]


def settings_of(known: Known) -> Settings:
    """The settings that the collection is reached by, after its secrets were put where their clients look.

    A collection without a file, which run params made, is where its newest run left it; as params, that run's
    settings may name no foreign places, but for the corpus, which is not read here.
    """
    layers = [*_layers(known.collection), Layer("page", {"collection": known.collection}, home())]
    last = known.last_settings
    if last and not known.default:
        reached = {name: value for name, value in last.items() if name != "source"}
        settings = resolve([*layers, Layer("its newest run", reached, home(), trusted=False)]).settings
        with suppress(ValidationError):  # of another version
            settings = settings.model_copy(update={"source": SourceSettings.model_validate(last.get("source"))})
    else:
        settings = resolve(layers).settings
    for credential in wanted(settings):
        # Where there is none, the environment has it, or the client says what is missing.
        if (connection := _connection(credential.connection)) and connection.password:
            os.environ[credential.variable] = connection.password
    settings = with_address(settings, _connection)
    return settings.model_copy(update={"store": hurried(settings.store, STORE_SECONDS)})


def readable(collection: str, user: BaseUser) -> Known:
    """The collection, if there is one and the user may read its DAG; others learn no names."""
    for known in known_collections():
        if known.collection == collection and may_read(user, known.dag_id):
            return known
    raise HTTPException(404, f"there is no collection {collection!r} that you may see")


def pointer(settings: Settings) -> dict[str, Any]:
    """`generation`, which is live, and `previous`, to which a rollback returns; None where there is none."""
    from squadron.generations.catalog import live_pointer

    return live_pointer(settings)


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
