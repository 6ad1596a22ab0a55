"""CocoIndex: an app with its LanceDB target. `cocoindex_app.py MODEL CORPUS FOLDER`.

As its text embedding example: one memoized component a document, one row of a table that CocoIndex manages, and its
own embedders (SentenceTransformerEmbedder, LiteLLMEmbedder), which batch concurrent calls, 64 at the most, and
remember each text's vector. A component that fails is logged, and the update succeeds; its page on monitoring says to
look at the number of errors, so the exit code here is 1 when there are any.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cocoindex as coco
from cocoindex.connectors import lancedb
from numpy.typing import NDArray

MODEL, CORPUS, FOLDER = sys.argv[1:]
DATABASE = coco.ContextKey[lancedb.LanceAsyncConnection]("database")
EMBEDDER = coco.ContextKey[Any]("embedder")


@dataclass(frozen=True)
class Document:
    """A line of the corpus."""

    document_id: str
    title: str
    text: str
    edition: str


@dataclass(frozen=True)
class Row(Document):
    """A row of the table."""

    vector: Annotated[NDArray, EMBEDDER]


@coco.lifespan
async def lifespan(builder: coco.EnvironmentBuilder) -> AsyncIterator[None]:
    """What the app uses."""
    builder.settings.db_path = Path(FOLDER, "cocoindex.db")
    builder.provide(DATABASE, await lancedb.connect_async(f"{FOLDER}/lancedb"))
    if MODEL.startswith("http"):
        from cocoindex.ops.litellm import LiteLLMEmbedder

        builder.provide(EMBEDDER, LiteLLMEmbedder("openai/text-embedding-3-small", api_base=MODEL))
    else:
        from cocoindex.ops.sentence_transformers import SentenceTransformerEmbedder

        builder.provide(EMBEDDER, SentenceTransformerEmbedder(MODEL))
    yield


@coco.fn(memo=True)
async def process_document(document: Document, table: lancedb.TableTarget[Row]) -> None:
    """One row."""
    vector = await coco.use_context(EMBEDDER).embed(document.text)
    table.declare_row(row=Row(**vars(document), vector=vector))


@coco.fn
async def app_main(corpus: str) -> None:
    """A table, and a component for each document."""
    schema = await lancedb.TableSchema.from_class(Row, primary_key=["document_id"])
    table = await lancedb.mount_table_target(DATABASE, "documents", schema)
    rows = [Document(**json.loads(line)) for line in Path(corpus).read_text().splitlines()]
    await coco.mount_each(process_document, [(row.document_id, row) for row in rows], table)


async def main() -> int:
    """One update; 1 when a component failed."""
    handle = coco.App(coco.AppConfig(name="squad"), app_main, corpus=CORPUS).update()
    await handle
    return int(handle.stats().total.num_errors > 0)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
