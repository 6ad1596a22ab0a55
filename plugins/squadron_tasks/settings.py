"""Settings of a DAG, and of a run, with what Airflow's Variables, params and Connections say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, Param, Variable, get_current_context
from airflow.sdk.exceptions import AirflowNotFoundException

from squadron.airflow_support.connections import AirflowConnection, apply_connections
from squadron.airflow_support.variables import variable_layers
from squadron.errors import SettingsError
from squadron.settings.credentials import is_remote
from squadron.settings.home import home
from squadron.settings.layers import DEFAULT_COLLECTION, Layer, Resolved, collections, resolve
from squadron.settings.registry import unknown
from squadron.settings.schema import Settings
from squadron_tasks.schedule import schedule_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Params = dict[str, Any]
"""The params of a run by their names, as Airflow gives them."""


@dataclass(frozen=True)
class ConfigFiles:
    """What the files of `config/` say: the settings of each collection, and why other files make no DAG."""

    settings: dict[str, Settings] = field(default_factory=dict)
    errors: list[SettingsError] = field(default_factory=list)


def read_config_files() -> ConfigFiles:
    """Read the files of `config/`, without Variables, which a DAG must not read while it is parsed."""
    files = ConfigFiles()
    for collection in collections():
        try:
            settings = resolve([Layer("its file's name", {"collection": collection}, home())]).settings
            schedule_of(settings.schedule)
            files.settings[collection] = settings
        except SettingsError as error:
            files.errors.append(SettingsError(f"config/{collection}.toml makes no DAG: {error}"))
    return files


def resolve_settings(collection: str, params: Mapping[str, Any]) -> Resolved:
    """`config/` < Airflow Variables < the params of the run, of which null inherits.

    `collection` is the one of the DAG. Runs of the default collection's DAG may name another one, which then needs no
    file of its own. Raises SettingsError when a run of another DAG does.
    """
    run_layer = {key: value for key, value in params.items() if value is not None}
    name = run_layer.get("collection", collection)
    if name != collection and collection != DEFAULT_COLLECTION:
        raise SettingsError(f"collection = {name!r} (from run params): this DAG is that of collection {collection!r}")
    layers = variable_layers(lambda variable: Variable.get(variable, default=None), name)
    if collection != DEFAULT_COLLECTION:
        layers = [*layers, Layer("the DAG", {"collection": collection}, home())]
    return resolve([*layers, Layer("run params", run_layer, home(), trusted=False)])


def read_settings(payload: str) -> Settings:
    """The settings that the task `resolve` returned, connected."""
    return connect(Settings.model_validate_json(payload))


def connect(settings: Settings) -> Settings:
    """The settings with what Airflow's Connections say, and their secrets in the environment."""
    return apply_connections(settings, _connection)


def embedding_pool(settings: Settings) -> str:
    """The Airflow pool, of config/pools.json, in which the shards of the configured service run."""
    return f"embedding_{settings.embedding.service if is_remote(settings) else 'local'}"


def collection_param(description: str, default: str | None = DEFAULT_COLLECTION) -> Param:
    """The field of a trigger form that takes a collection's name; without a default it may stay empty."""
    kind = "string" if default else ["null", "string"]
    return Param(default, type=kind, examples=collections(), title="collection", description=description)


def run_params() -> Params:
    """The params of this run, those included that its form does not have."""
    context = get_current_context()
    return {**context["params"], **(context["dag_run"].conf or {})}


def form_params() -> Params:
    """The params of this run. Raises SettingsError for one that the DAG's form does not have."""
    params, names = run_params(), list(get_current_context()["dag"].params)
    for key in params.keys() - names:
        raise SettingsError(f"run params: {unknown('a param of this DAG', key, names)}")
    return params


def _connection(name: str) -> AirflowConnection | None:
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException:
        return None
