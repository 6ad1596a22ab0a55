"""Clocks: generations, vectors and leftovers that bear times far in the future or the past lose nothing that is live.

The clock of a machine jumps, or two workers disagree: then what one wrote bears times that another cannot believe.
"""

import os
from pathlib import Path

import pytest

from squadron.cache.files import cache_size, evict
from squadron.dataflow.driver import shared_graph
from squadron.generations.catalog import Generations, generations
from squadron.generations.live_pointer import rollback
from squadron.runs.whole_run import ingest
from squadron.settings.schema import Settings
from squadron.staging import abandoned as leftovers
from tests.faults.corpora import AFTER, BEFORE, answers, clean_rows, settings_of
from tests.whole_runs import stored_rows

PAST, NOW, FUTURE = (f"{year}-01-01T00:00:00.000+00:00" for year in (1999, 2026, 2199))
YEAR_2199_SECONDS = 7_226_582_400


def built(folder: Path, width: int) -> Settings:
    """Settings under which a generation of vectors of this width went live."""
    settings = settings_of(folder, BEFORE, **{"embedding.hashing.dimension": width, "gate.max_drop": 1.0})
    ingest(settings)
    return settings


@pytest.mark.parametrize("times", [(FUTURE, NOW, PAST), (NOW, PAST, FUTURE), (FUTURE, PAST, NOW)])
def test_whatever_the_clock_said_the_live_generation_and_its_predecessor_are_kept(
    times: tuple[str, ...], tmp_path: Path
) -> None:
    names, widths = [], (128, 256, 512)
    for width, time in zip(widths, times, strict=True):
        settings = built(tmp_path, width)
        graph = shared_graph(settings)
        catalog = Generations(graph)
        names.append(catalog.live)
        catalog.change(catalog.live or "", created_at=time)

    assert ingest(settings)["live"] == names[2]
    assert {row["generation"] for row in generations(settings)} == set(names[1:])
    assert answers(settings)
    assert rollback(settings).live == names[1]
    assert answers(settings)
    assert len(stored_rows(built(tmp_path, widths[1]), names[1])) == len(BEFORE)


@pytest.mark.parametrize("seconds", [0, YEAR_2199_SECONDS], ids=["of 1970", "of 2199"])
def test_cache_files_of_any_time_are_read_and_at_worst_embedded_again(seconds: int, tmp_path: Path) -> None:
    changes = {"cache.max_age_days": 1}
    ingest(settings_of(tmp_path, BEFORE, **changes))
    for file in (tmp_path / "cache").rglob("*.parquet"):
        os.utime(file, (seconds, seconds))

    cache_size(str(tmp_path / "cache"))
    evict(str(tmp_path / "cache"), max_age_days=1)
    elsewhere = settings_of(tmp_path, AFTER, **changes, **{"store.lancedb.uri": "another"})
    done = ingest(elsewhere)

    still_known = len(set(BEFORE) & set(AFTER)) if seconds else 0
    assert done["counts"]["cached"] == still_known
    assert stored_rows(elsewhere, done["live"]) == clean_rows(tmp_path, AFTER)


def test_staging_of_the_future_is_not_taken_for_a_dead_run_s(tmp_path: Path) -> None:
    folder = tmp_path / "books" / "scheduled__2199"
    folder.mkdir(parents=True)
    os.utime(folder, (YEAR_2199_SECONDS,) * 2)

    assert leftovers.collect(str(tmp_path), "books") == []
    assert folder.is_dir()
