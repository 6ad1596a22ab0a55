"""A whole run: all steps of an ingest, while no other process of this machine ingests into the collection."""

from squadron.runs.collection_lock import only_run
from squadron.runs.live_sync import promote_in_step
from squadron.runs.report import RunReport, run_report
from squadron.runs.steps import run_steps
from squadron.settings.schema import Settings
from squadron.staging.abandoned import process_run_id


def ingest(settings: Settings) -> RunReport:
    """Plan, embed, write, index, evaluate and promote; the report of it all (`report.run_report`).

    Raises StoreError, with nothing done, while another process of this machine ingests into the collection.
    """
    with only_run(settings):
        steps = run_steps(settings, process_run_id(), promote_in_step)
    return run_report(steps.plan, steps.ingested, steps.finished, steps.evaluation, steps.promotion)
