"""Makes the generation live again that was live before: readers see it at once, and nothing is embedded.

A second run returns to the generation before that one, as far as generations are kept (`retention.generations`).
Later ingest runs do not promote a generation that was rolled back; a person can.
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

from airflow.sdk import dag, task

from squadron.settings.layers import DEFAULT_COLLECTION
from squadron_tasks.payloads import JsonObject, payload_of
from squadron_tasks.settings import collection_param, connect, resolve_settings, run_params


@dag(
    dag_id="vector_rollback",
    description="Make the generation live again that was live before.",
    doc_md=__doc__,
    schedule=None,
    catchup=False,
    max_active_runs=1,
    tags=["squadron", "vector store"],
    params={"collection": collection_param("Whose live generation is rolled back.")},
    default_args={"owner": "squadron", "retries": 0},
)
def vector_rollback() -> None:
    rollback()


@task(multiple_outputs=False)
def rollback() -> JsonObject:
    """Move the live pointer back."""
    from squadron.generations.live_pointer import rollback as roll_back

    return payload_of(roll_back(connect(resolve_settings(DEFAULT_COLLECTION, run_params()).settings)))


vector_rollback_dag = vector_rollback()
