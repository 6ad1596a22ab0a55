"""The embedding cache: no text is embedded twice, and no vector is wrong."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from squadron.__main__ import app
from squadron.cache.files import cache_size, evict
from squadron.cache.keys import space_digest
from squadron.cache.vectors import EmbeddingCache
from squadron.errors import StoreError
from squadron.runs import whole_run
from squadron.runs.finish import finish
from squadron.runs.ingest_shard import ingest_shard
from squadron.runs.plan import plan_run

SPACE = {"service": "test", "model": "one"}
TEXTS = [f"text {number}" for number in range(50)]


def vectors_of(texts: list[str], dimension: int = 8) -> np.ndarray:
    rows = [np.random.default_rng(abs(hash(text)) % 2**32).standard_normal(dimension) for text in texts]
    return np.array(rows, np.float32).reshape(len(texts), dimension)


def filled(path: Path, texts: list[str] = TEXTS) -> np.ndarray:
    vectors = vectors_of(texts)
    EmbeddingCache(str(path), SPACE).add(texts, vectors)
    return vectors


def test_what_was_added_is_found_in_the_order_asked_for(tmp_path: Path) -> None:
    vectors = filled(tmp_path)

    found, there = EmbeddingCache(str(tmp_path), SPACE).vectors([TEXTS[7], "unknown", TEXTS[3]], 8)

    assert there.tolist() == [True, False, True]
    np.testing.assert_array_equal(found[[0, 2]], vectors[[7, 3]])


def test_another_vector_space_finds_nothing(tmp_path: Path) -> None:
    filled(tmp_path)

    _, there = EmbeddingCache(str(tmp_path), SPACE | {"model": "two"}).vectors(TEXTS, 8)

    assert not there.any()


def test_an_empty_cache_and_no_texts_find_nothing(tmp_path: Path) -> None:
    found, there = EmbeddingCache(str(tmp_path / "absent"), SPACE).vectors([], 8)

    assert found.shape == (0, 8)
    assert there.shape == (0,)
    assert not EmbeddingCache(str(tmp_path / "absent"), SPACE).vectors(TEXTS, 8)[1].any()


def test_texts_of_any_kind_are_told_apart(tmp_path: Path) -> None:
    texts = ["", " ", "a\0", "a", "é", "e\u0301", "🌍", "\ud800"]
    vectors = filled(tmp_path, texts)

    found, there = EmbeddingCache(str(tmp_path), SPACE).vectors(texts, 8)

    assert there.all()
    np.testing.assert_array_equal(found, vectors)


def test_a_damaged_vector_is_a_miss_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = filled(tmp_path)
    (file,) = tmp_path.rglob("*.parquet")
    content = bytearray(file.read_bytes())
    start = content.find(vectors[5].tobytes())
    assert start > 0
    content[start] ^= 0xFF
    file.write_bytes(content)

    found, there = EmbeddingCache(str(tmp_path), SPACE).vectors(TEXTS, 8)

    assert there.sum() == len(TEXTS) - 1
    assert not there[5]
    np.testing.assert_array_equal(found[there], vectors[there])
    assert "1 vectors" in caplog.text


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", None])
def test_a_damaged_file_is_passed_over(tmp_path: Path, content: bytes | None) -> None:
    filled(tmp_path)
    (file,) = tmp_path.rglob("*.parquet")
    file.write_bytes(file.read_bytes()[:-40] if content is None else content)

    assert not EmbeddingCache(str(tmp_path), SPACE).vectors(TEXTS, 8)[1].any()


def test_a_file_that_vanishes_after_it_was_listed_is_a_miss(tmp_path: Path) -> None:
    filled(tmp_path)
    cache = EmbeddingCache(str(tmp_path), SPACE)
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()

    assert not cache.vectors(TEXTS, 8)[1].any()


@pytest.mark.slow
def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    parts = [TEXTS[start::4] for start in range(4)]
    writers = [context.Process(target=filled, args=(tmp_path, part)) for part in parts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0, 0, 0]
    assert EmbeddingCache(str(tmp_path), SPACE).vectors(TEXTS, 8)[1].all()


def test_a_writer_that_is_killed_leaves_no_wrong_vector(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from squadron.cache.vectors import EmbeddingCache\n"
        f"cache = EmbeddingCache({str(tmp_path)!r}, {SPACE!r})\n"
        "number = 0\n"
        "while True:\n"
        "    cache.add([f'{number} {row}' for row in range(200)], np.full((200, 8), number, np.float32))\n"
        "    number += 1\n"
        "    print(number, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    added = [int(writer.stdout.readline()) for _ in range(3)][-1]
    writer.send_signal(signal.SIGKILL)
    writer.wait()

    texts = [f"{number} {row}" for number in range(added) for row in range(200)]
    found, there = EmbeddingCache(str(tmp_path), SPACE).vectors(texts, 8)

    assert there.all()
    np.testing.assert_array_equal(found[:, 0], np.repeat(np.arange(added), 200))


def test_its_size_is_told_and_old_files_are_evicted(tmp_path: Path) -> None:
    filled(tmp_path)
    (old,) = tmp_path.rglob("*.parquet")
    os.utime(old, (time.time() - 10 * 86_400,) * 2)
    filled(tmp_path, ["new"])

    written = sum(file.stat().st_size for file in tmp_path.rglob("*.parquet"))

    size = cache_size(str(tmp_path))
    removed = evict(str(tmp_path), max_age_days=5)

    assert (size["files"], size["spaces"], size["oldest_days"]) == (2, 1, 10.0)
    assert size["bytes"] == written
    assert removed == 1
    assert EmbeddingCache(str(tmp_path), SPACE).vectors(["new", TEXTS[0]], 8)[1].tolist() == [True, False]


def test_what_killed_writers_left_is_swept_by_the_next_run_and_a_file_that_is_being_written_is_not(
    settings_with, tmp_path: Path
) -> None:
    settings = settings_with(**{"cache.path": "cache"})
    whole_run.ingest(settings)
    kept = next((tmp_path / "cache").rglob("*.parquet"))
    left, current = kept.with_name("left.parquet.part"), kept.with_name("current.parquet.part")
    for part in (left, current):
        part.write_bytes(b"half of a table")
    for old in (left, kept):
        os.utime(old, (0, time.time() - 8 * 86_400))

    again = whole_run.ingest(settings)

    assert (left.exists(), current.exists(), kept.exists()) == (False, True, True)
    assert again["counts"]["embedded"] == 0


def test_the_command_tells_its_size_and_removes_what_is_old(tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    (old,) = (tmp_path / "cache").rglob("*.parquet")
    filled(tmp_path / "cache", ["another text"])
    os.utime(old, (0, time.time() - 10 * 86_400))
    command = ["cache", f"--set=cache.path={tmp_path / 'cache'}"]

    before = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    kept = json.loads(CliRunner().invoke(app, [*command, "--json", "--evict-older-than", "11"]).stdout)
    shown = CliRunner().invoke(app, [*command, "--evict-older-than", "9.5"]).stdout

    assert (before["spaces"], before["files"], before["oldest_days"], before["evicted"]) == (1, 2, 10.0, None)
    assert before["bytes"] > 0
    assert (kept["files"], kept["evicted"]) == (2, 0)
    assert "1 files were removed" in shown
    assert "in 1 files" in shown
    assert not old.exists()


def test_the_command_says_when_there_is_no_cache() -> None:
    done = CliRunner().invoke(app, ["cache", "--set=cache.path="])

    assert done.exit_code == 2
    assert "cache.path is null: there is no cache" in done.stderr


def test_a_place_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StoreError, match=r"cache\.path"):
        filled(tmp_path / "file")


def test_moving_to_another_store_embeds_nothing(settings_with, tmp_path: Path) -> None:
    first = whole_run.ingest(settings_with(**{"cache.path": "cache"}))

    moved = whole_run.ingest(settings_with(**{"cache.path": "cache", "store.lancedb.uri": "another"}))

    assert first["counts"]["embedded"] == moved["counts"]["cached"] == moved["counts"]["written"] == 107
    assert (first["counts"]["cached"], moved["counts"]["embedded"]) == (0, 0)
    assert moved["metrics"] == first["metrics"]


def test_other_metadata_embeds_nothing_and_rewrites_the_rows(settings_with, tmp_path: Path) -> None:
    file = tmp_path / "corpus.csv"
    source = {"source.name": "files", "source.path": str(file), "source.columns.document_id": "id"}
    source |= {"source.columns.metadata": ["language"], "cache.path": "cache"}
    file.write_text("id,context,language\n1,Tea is a drink.,en\n2,Der Tee ist warm.,en\n")
    whole_run.ingest(settings_with(**source))
    file.write_text("id,context,language\n1,Tea is a drink.,en\n2,Der Tee ist warm.,de\n")

    counts = whole_run.ingest(settings_with(**source))["counts"]

    assert (counts["embedded"], counts["cached"], counts["written"], counts["deleted"]) == (0, 1, 1, 1)


def test_a_write_that_failed_is_tried_again_without_embedding(settings_with, tmp_path: Path) -> None:
    settings = settings_with(**{"cache.path": "cache"})
    plan = plan_run(settings, "run")
    table = tmp_path / "lancedb" / f"{plan.generation}.lance"
    data = table / "data"
    data.write_text("a file where the rows are to go")
    with pytest.raises(StoreError):
        ingest_shard(settings, plan, plan.shards[0])
    data.unlink()

    again = ingest_shard(settings, plan, plan.shards[0])

    assert (again.embedded, again.cached, again.written) == (0, 107, 107)
    assert finish(settings, plan).rows == 107


def test_a_damaged_vector_is_looked_for_in_the_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vectors = filled(tmp_path)
    (file,) = tmp_path.rglob("*.parquet")
    content = bytearray(file.read_bytes())
    content[content.find(vectors[5].tobytes())] ^= 0xFF
    file.write_bytes(content)
    file.rename(file.with_name("0" * 32 + ".parquet"))  # it is listed first
    EmbeddingCache(str(tmp_path), SPACE).add([TEXTS[5]], vectors[5:6])  # and embedded once more

    found, there = EmbeddingCache(str(tmp_path), SPACE).vectors(TEXTS, 8)

    assert there.all()
    np.testing.assert_array_equal(found, vectors)
    assert "1 vectors" in caplog.text


def test_equal_vector_spaces_have_one_key_whatever_the_order_of_their_entries() -> None:
    space = {"service": "test", "model": "one"}
    turned = dict(reversed(space.items()))

    assert space_digest(space) == space_digest(turned) != space_digest(space | {"model": "two"})
    assert (len(space_digest(space)), len(space_digest(space, 8))) == (32, 16)
