"""Builds one corpus with several pairs of embedding service and vector store, and compares them in one table.

Each pair is a whole run into a collection of its own, `bakeoff_<service>_<store>`; the configured collections are left
alone. The pairs are built one after the other, and without the cache, so that the seconds can be compared: what a
service bills is paid for again with each store. A pair that fails does not hinder the others, and the table says why.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from squadron.errors import SquadronError
from squadron.settings.layers import DEFAULT_COLLECTION
from squadron.settings.registry import EMBEDDINGS, STORES
from squadron_tasks.settings import collection_param, known_params, prepared, resolved_settings

log = logging.getLogger("squadron.dag")


def _choice(default: list[str], examples: list[str], title: str, description: str) -> Param:
    items = {"type": "string", "enum": examples}
    array = {"type": "array", "items": items, "minItems": 1, "uniqueItems": True, "examples": examples}
    return Param(default, title=title, description=description, **array)


@dag(
    dag_id="vector_bakeoff",
    description="Build one corpus with several embedding services and stores, and compare them in one table.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["squadron", "embeddings", "vector store"],
    params={
        "collection": collection_param("Whose corpus and settings are taken; it is left as it is."),
        "embeddings": _choice(
            ["sentence_transformers", "hashing"],
            [*EMBEDDINGS],
            "embedding services",
            "Each with each store. OpenAI and Cohere want a key.",
        ),
        "stores": _choice(
            ["lancedb"], [*STORES], "vector stores", "Those beside LanceDB want a server, at the configured address."
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
    @task(task_id="pairs")
    def pairs_to_build() -> list[dict[str, str]]:
        """Each service that was asked for with each store."""
        from squadron.runs import bakeoff

        params = known_params()
        return [vars(pair) for pair in bakeoff.pairs(params["embeddings"], params["stores"])]

    # One at a time, and in the pool of the services whose models are on the workers: all pairs use their processors.
    @task(
        map_index_template="{{ pair_name }}",
        multiple_outputs=False,
        max_active_tis_per_dagrun=1,
        pool="embedding_local",
    )
    def build(pair: dict[str, str]) -> dict[str, Any]:
        """A whole run; the row of the table, whether it succeeds or not, is the XCom `row`."""
        from squadron.runs import bakeoff

        context: Any = get_current_context()
        wanted = bakeoff.Pair(**pair)
        context["pair_name"] = wanted.name
        try:
            row = _built(wanted, context)
        except Exception as error:
            context["ti"].xcom_push(key="row", value=bakeoff.failed(wanted, error))
            raise
        context["ti"].xcom_push(key="row", value=row)
        return row

    @task(trigger_rule="all_done", multiple_outputs=False)
    def table(pairs: list[dict[str, str]]) -> dict[str, Any]:
        """All pairs in one table, as Markdown and as rows."""
        from squadron.runs import bakeoff

        context: Any = get_current_context()
        rows = [
            context["ti"].xcom_pull(task_ids="build", key="row", map_indexes=number)
            or bakeoff.failed(bakeoff.Pair(**pair), SquadronError("the task ended without a word: see its log"))
            for number, pair in enumerate(pairs)
        ]
        made = bakeoff.table(rows)
        log.info("\n%s", made)
        if all(row["error"] for row in rows):
            raise SquadronError(f"no pair could be built:\n{made}")
        return {"table": made, "rows": rows}

    pairs = pairs_to_build()
    build.expand(pair=pairs) >> table(pairs)


def _built(pair: Any, context: Any) -> dict[str, Any]:
    from squadron.dataflow.driver import shared_graph
    from squadron.runs import bakeoff, whole_run

    params = context["params"]
    given = {
        "collection": params["collection"],
        "embedding.service": pair.embedding,
        "store.name": pair.store,
        "source.limit": params["limit"],
    }
    configured = resolved_settings(DEFAULT_COLLECTION, given).settings
    variant = f"{context['run_id']} {context['ti'].try_number}"
    settings = prepared(bakeoff.settings_of_pair(configured, pair, variant))
    report = whole_run.ingest(settings)
    return bakeoff.measured(pair, report, shared_graph(settings).kept("dimension"))


vector_bakeoff_dag = vector_bakeoff()
