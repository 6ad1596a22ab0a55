"""Settings and secrets of a DAG run: what the files of the DAGs share. It holds no DAG."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.exceptions import AirflowNotFoundException
from airflow.sdk import Asset, BaseHook, Param, Variable, get_current_context
from croniter import croniter

from squadron.airflow_support.variables import variable_layers
from squadron.errors import SettingsError
from squadron.settings.connections import with_address
from squadron.settings.credentials import is_remote, wanted
from squadron.settings.home import home
from squadron.settings.layers import DEFAULT_COLLECTION, Layer, Resolved, collections, resolve
from squadron.settings.registry import unknown
from squadron.settings.schema import Settings

ASSET = "asset:"
PRESETS = ("@once", "@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "@continuous")

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squadron.runs.results import Plan


def resolved_settings(collection: str, given: Mapping[str, Any]) -> Resolved:
    """`config/` < Airflow Variables < `given`, the params of the run, of which null inherits.

    `collection` is the one of the DAG. Runs of the default collection's DAG may name another one, which then needs no
    file of its own; the other DAGs keep to theirs.
    """
    params = {key: value for key, value in given.items() if value is not None}
    named = params.get("collection", collection)
    if named != collection and collection != DEFAULT_COLLECTION:
        raise SettingsError(f"collection = {named!r} (from run params): this DAG is that of collection {collection!r}")
    layers = variable_layers(lambda name: Variable.get(name, default=None), named)
    if collection != DEFAULT_COLLECTION:
        layers = [*layers, Layer("the DAG", {"collection": collection}, home())]
    return resolve([*layers, Layer("run params", params, home(), trusted=False)])


def sound_collections() -> dict[str, Settings]:
    """The settings of each collection whose file in config/ is sound."""
    found = {name: configured(name) for name in collections()}
    return {name: settings for name, settings in found.items() if isinstance(settings, Settings)}


def configured(collection: str) -> Settings | SettingsError:
    """What `config/` says of a collection, or why it cannot be used."""
    try:
        settings = resolve([Layer("its file's name", {"collection": collection}, home())]).settings
        scheduled(settings.schedule)
    except SettingsError as error:
        return SettingsError(f"config/{collection}.toml makes no DAG: {error}")
    return settings


def scheduled(schedule: str | None) -> Any:
    """What a DAG takes as its schedule: a cron expression, one of Airflow's presets, or an asset's name."""
    if not schedule:
        return None
    if schedule.startswith(ASSET):
        return [Asset(schedule.removeprefix(ASSET))]
    if schedule not in PRESETS and not croniter.is_valid(schedule):
        raise SettingsError(
            f"schedule = {schedule!r}: wanted a cron expression like '0 3 * * *', one of {', '.join(PRESETS)}, "
            f"{ASSET}NAME for after the asset of that name was updated, or nothing"
        )
    return schedule


def collection_param(description: str, default: str | None = DEFAULT_COLLECTION) -> Param:
    """The field of a trigger form that takes a collection's name; without a default it may stay empty."""
    kind = "string" if default else ["null", "string"]
    return Param(default, type=kind, examples=collections(), title="collection", description=description)


def pool_of(settings: Settings) -> str:
    """The Airflow pool of the shards of an embedding service, of config/pools.json."""
    return f"embedding_{settings.embedding.service if is_remote(settings) else 'local'}"


def given_params() -> dict[str, Any]:
    """The params of this run, keys included that the form does not know."""
    context = get_current_context()
    return {**context["params"], **(context["dag_run"].conf or {})}


def known_params() -> dict[str, Any]:
    """The params of this run, of a DAG that takes no others than its form has. Raises SettingsError for another."""
    given, known = given_params(), list(get_current_context()["dag"].params)
    for key in given.keys() - known:
        raise SettingsError(f"run params: {unknown('a param of this DAG', key, known)}")
    return given


def refuse_many_shards(plan: Plan) -> None:
    """Raise SettingsError, and leave nothing of it in staging, when a plan has more shards than Airflow maps over."""
    most = conf.getint("core", "max_map_length")
    if len(plan.shards) > most:
        from squadron.staging import shards as staging

        wanted = -(-sum(shard.passages for shard in plan.shards) // most)
        staging.remove(plan.folder, but=staging.SPENT)
        raise SettingsError(
            f"{len(plan.shards):,} shards are more than Airflow maps a task over ([core] max_map_length = {most:,}): "
            f"set ingest.shard_passages to {wanted:,} or more. Nothing was embedded"
        )


def prepared(settings: str | Settings) -> Settings:
    """The settings, after the secrets of their backends were put where the clients look for them."""
    known = Settings.model_validate_json(settings) if isinstance(settings, str) else settings
    for credential in wanted(known):
        # Where there is none, the environment has it, or the client says what is missing.
        if (connection := _connection(credential.connection)) and connection.password:
            os.environ[credential.variable] = connection.password
    return with_address(known, _connection)


def _connection(name: str) -> Any:
    try:
        return BaseHook.get_connection(name)
    except AirflowNotFoundException:
        return None
