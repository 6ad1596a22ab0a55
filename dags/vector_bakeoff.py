"""Builds one corpus with several pairs of embedding service and vector store, and compares them in one table.

Each pair is a whole run into a collection of its own, `bakeoff_<service>_<store>`; the configured collections are left
alone. The pairs are built one after the other and without the cache, so that their seconds can be compared: what a
service bills is paid again for each store. When a pair fails, the others go on, and the table says why.
"""

from __future__ import annotations

try:
    import squadron  # noqa: F401
    import squadron_tasks  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"{error.name} is not installed where Airflow runs. In a checkout of Squadron say: "
        "pip install --requirement requirements.txt . ; and put the files of plugins/ into Airflow's plugins folder"
    ) from error

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.definitions.context import context_merge

from squadron.errors import SquadronError
from squadron.settings.layers import DEFAULT_COLLECTION
from squadron.settings.registry import EMBEDDINGS, STORES
from squadron_tasks.payloads import JsonObject, payload_of, read_payload
from squadron_tasks.settings import collection_param, connect, form_params, resolve_settings

if TYPE_CHECKING:
    from airflow.sdk import Context

    from squadron.runs.bakeoff import Pair

log = logging.getLogger("squadron.dag")


def _choice(default: list[str], choices: list[str], title: str, description: str) -> Param:
    items = {"type": "string", "enum": choices}
    return Param(
        default,
        title=title,
        description=description,
        type="array",
        items=items,
        minItems=1,
        uniqueItems=True,
        examples=choices,
    )


@dag(
    dag_id="vector_bakeoff",
    description="Build one corpus with several embedding services and stores, and compare them in one table.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["squadron", "embeddings", "vector store"],
    params={
        "collection": collection_param("Whose corpus and settings are used. It is not changed."),
        "embeddings": _choice(
            ["sentence_transformers", "hashing"],
            [*EMBEDDINGS],
            "embedding services",
            "Each with each store. OpenAI and Cohere need a key.",
        ),
        "stores": _choice(
            ["lancedb"], [*STORES], "vector stores", "All but LanceDB need a server, at the configured address."
        ),
        "limit": Param(
            2000,
            type=["null", "integer"],
            minimum=1,
            title="limit",
            description="Documents of the corpus. Empty: as the collection's settings say.",
        ),
    },
    default_args={"owner": "squadron", "retries": 0, "execution_timeout": timedelta(hours=12)},
)
def vector_bakeoff() -> None:
    pairs: Any = pairs_to_build()
    build.expand(pair=pairs) >> table(pairs)


@task(task_id="pairs")
def pairs_to_build() -> list[JsonObject]:
    """Each of the chosen services with each of the chosen stores."""
    from squadron.runs import bakeoff

    params = form_params()
    return [payload_of(pair) for pair in bakeoff.pairs(params["embeddings"], params["stores"])]


# One at a time, and in the pool of the services whose models run on the workers: every pair uses their processors.
@task(map_index_template="{{ pair_name }}", multiple_outputs=False, max_active_tis_per_dagrun=1, pool="embedding_local")
def build(pair: JsonObject) -> JsonObject:
    """Run the whole ingest. The pair's row of the table is the XCom `row`, also when the run fails."""
    from squadron.runs import bakeoff

    context = get_current_context()
    run_pair = read_payload(bakeoff.Pair, pair)
    context_merge(context, pair_name=run_pair.name)
    try:
        row = _row_of(run_pair, context)
    except Exception as error:
        context["ti"].xcom_push(key="row", value=bakeoff.failed(run_pair, error))
        raise
    context["ti"].xcom_push(key="row", value=row)
    return row


@task(trigger_rule="all_done", multiple_outputs=False)
def table(pairs: list[JsonObject]) -> JsonObject:
    """All pairs in one table, as Markdown and as rows."""
    from squadron.runs import bakeoff

    instance = get_current_context()["ti"]
    rows = [
        instance.xcom_pull(task_ids="build", key="row", map_indexes=number)
        or bakeoff.failed(read_payload(bakeoff.Pair, pair), SquadronError("the task was killed: see its log"))
        for number, pair in enumerate(pairs)
    ]
    markdown = bakeoff.table(rows)
    log.info("\n%s", markdown)
    if all(row["error"] for row in rows):
        raise SquadronError(f"no pair could be built:\n{markdown}")
    return {"table": markdown, "rows": rows}


def _row_of(pair: Pair, context: Context) -> JsonObject:
    from squadron.dataflow.driver import shared_graph
    from squadron.runs import bakeoff, whole_run

    overrides = {
        "collection": context["params"]["collection"],
        "embedding.service": pair.embedding,
        "store.name": pair.store,
        "source.limit": context["params"]["limit"],
    }
    configured = resolve_settings(DEFAULT_COLLECTION, overrides).settings
    variant = f"{context['run_id']} {context['ti'].try_number}"
    settings = connect(bakeoff.settings_of_pair(configured, pair, variant))
    report = whole_run.ingest(settings)
    return bakeoff.measured(pair, report, shared_graph(settings).kept("dimension"))


vector_bakeoff_dag = vector_bakeoff()
