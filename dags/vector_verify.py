"""Compares each collection's live generation with its corpus, row by row, once a week.

All ids and columns are compared, and a sample of vectors is embedded again. A task fails when they differ; with
`repair` it writes and deletes what is needed instead.
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

import json
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param, dag, get_current_context, task
from airflow.sdk.definitions.context import context_merge

from squadron.errors import StoreError
from squadron.settings.layers import DEFAULT_COLLECTION, collections
from squadron_tasks.retries import RETRY_POLICY
from squadron_tasks.settings import collection_param, connect, form_params, resolve_settings

if TYPE_CHECKING:
    from squadron.runs.verify import VerifyReport

log = logging.getLogger("squadron.dag")

DIFFERENCES = ("missing", "refused", "extra", "altered", "held_back", "left")


@dag(
    dag_id="vector_verify",
    description="Compare the vector indexes with their corpora, row by row; repair them if asked to.",
    doc_md=__doc__,
    schedule="0 5 * * 0",
    catchup=False,
    max_active_runs=1,
    tags=["squadron", "vector store"],
    params={
        "collection": collection_param("The collection to verify. Empty: all that have a file in config/.", None),
        "repair": Param(False, type="boolean", title="repair", description="Write and delete what is needed."),
        "vectors": Param(
            None, type=["null", "integer"], minimum=0, title="vectors", description="How many to embed again."
        ),
    },
    default_args={
        "owner": "squadron",
        "retries": 1,
        "retry_delay": timedelta(minutes=5),
        "retry_policy": RETRY_POLICY,
    },
)
def vector_verify() -> None:
    names: Any = collections_to_verify()
    verify.expand(collection=names)


@task
def collections_to_verify() -> list[str]:
    """The collection that the run names, or all that have a file in config/."""
    name = form_params()["collection"]
    return [name] if name else collections()


@task(map_index_template="{{ collection_name }}", multiple_outputs=False)
def verify(collection: str) -> VerifyReport:
    """Compare, and repair if asked to."""
    from squadron.runs.verify import verify

    context = get_current_context()
    context_merge(context, collection_name=collection)
    params = context["params"]
    settings = connect(resolve_settings(DEFAULT_COLLECTION, {"collection": collection}).settings)
    report = verify(settings, params["repair"], params["vectors"])
    log.info("%s", json.dumps(report, indent=2))
    if report["counts"]["left"] or not (report["sound"] or report["repaired"]):
        counts = {name: count for name, count in report["counts"].items() if name in DIFFERENCES}
        advice = "Its quarantine says why" if report["repaired"] else "Trigger this with repair"
        raise StoreError(f"{report['generation']} differs from its corpus: {counts}. {advice}")
    return report


vector_verify_dag = vector_verify()
