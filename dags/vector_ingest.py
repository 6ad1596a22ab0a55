"""Keeps a vector index in step with a corpus: resolve, plan, ingest, finish, evaluate, promote."""

from __future__ import annotations

try:
    import squadron  # noqa: F401
    import squadron_tasks  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error.name} is not installed where Airflow runs. In a checkout of Squadron say: "
        "pip install --requirement requirements.txt . ; and put the files of plugins/ into Airflow's plugins folder"
    ) from error

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param

from run_alerts import failed  # of plugins/
from squadron.airflow_support.trigger_form import form_fields
from squadron.settings.layers import DEFAULT_COLLECTION
from squadron_tasks.approval import approval_task
from squadron_tasks.asset_events import index_alias
from squadron_tasks.ingest_tasks import evaluate, finish, ingest, plan, promote, resolve
from squadron_tasks.retries import RETRIES
from squadron_tasks.schedule import deadline_of, schedule_of
from squadron_tasks.settings import embedding_pool, read_config_files

if TYPE_CHECKING:
    from squadron.settings.schema import Settings


def ingest_dag(collection: str, config: Settings) -> DAG:
    """The DAG of a collection: the steps of `squadron.runs` as tasks. `config`: its settings, without Variables."""
    with DAG(
        dag_id="vector_ingest" if collection == DEFAULT_COLLECTION else f"vector_ingest_{collection}",
        description="Load a corpus, embed what changed, write it to the vector store, measure it, make it live.",
        doc_md=__doc__,
        schedule=schedule_of(config.schedule),
        deadline=deadline_of(config),
        on_failure_callback=failed,
        catchup=False,
        max_active_runs=1,
        tags=["squadron", "embeddings", "vector store"],
        params={key: Param(None, **field) for key, field in form_fields(config).items()},
        default_args={"owner": "squadron", "execution_timeout": timedelta(hours=12), **RETRIES},
    ) as dag:
        _wire_tasks(collection, embedding_pool(config))
    return dag


def _wire_tasks(collection: str, pool: str) -> None:
    """Make the DAG's tasks. Until they run, an XComArg stands for what each returns: hence `Any`."""
    settings: Any = resolve(collection)
    shards: Any = plan(settings)
    run_plan = shards["plan"]
    ingested: Any = ingest.override(pool=pool).partial(settings=settings, plan=run_plan).expand(shard=shards)
    finished: Any = finish(settings, run_plan, ingested)
    evaluation: Any = evaluate(settings, run_plan)
    approval = approval_task()
    promotion: Any = promote.override(outlets=[index_alias(collection)])
    report = promotion(collection, settings, run_plan, ingested, finished, evaluation)
    finished >> evaluation >> approval >> report


squad_dag: DAG  # that of the default collection, made below
for name, config in read_config_files().settings.items():  # config_errors.py tells of the others
    globals()[f"{name}_dag"] = ingest_dag(name, config)
