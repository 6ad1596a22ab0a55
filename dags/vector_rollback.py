"""Makes the generation live again that was live before: readers see it at once, and nothing is embedded.

A second run returns to the generation before that one, as far as generations are kept (`retention.generations`).
Later runs of the ingest leave the generation alone that was rolled back, until somebody promotes it by hand.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from squadron.settings.layers import DEFAULT_COLLECTION
from squadron_tasks.settings import collection_param, given_params, prepared, resolved_settings


@dag(
    dag_id="vector_rollback",
    description="Make the generation live again that was live before.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["squadron", "vector store"],
    params={"collection": collection_param("Whose live generation is to be left.")},
    default_args={"owner": "squadron", "retries": 0},
)
def vector_rollback() -> None:
    @task(multiple_outputs=False)
    def rollback() -> dict[str, Any]:
        """Move the live pointer back."""
        from squadron.generations import catalog

        params = given_params()
        return vars(catalog.rollback(prepared(resolved_settings(DEFAULT_COLLECTION, params).settings)))

    rollback()


vector_rollback_dag = vector_rollback()
