"""LangChain: the indexing API. `langchain_index.py MODEL CORPUS FOLDER`.

`index(cleanup="full")` with a record manager in SQLite, as its how-to has it: it skips what the record manager has
seen and deletes what the loader no longer returns. Around the model is a CacheBackedEmbeddings, as its how-to on
caching has it. The LanceDB store's own default, mode="overwrite", would keep the last batch alone: append. Local: 500
documents a batch (the default of 100 sorts worse by length); OpenAI: 100. `check_embedding_ctx_length=False`, as its
documentation says for servers other than OpenAI's, which want text and not tokens.
"""

import json
import sys
from pathlib import Path

from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.indexes import SQLRecordManager
from langchain_classic.storage import LocalFileStore
from langchain_community.vectorstores import LanceDB
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.indexing import index


def main() -> None:
    """One sync of the corpus."""
    model, corpus, folder = sys.argv[1:]
    wire = model.startswith("http")
    cache = LocalFileStore(f"{folder}/cache")
    embedding = CacheBackedEmbeddings.from_bytes_store(_model(model), cache, namespace="minilm", key_encoder="blake2b")
    store = LanceDB(uri=f"{folder}/lancedb", embedding=embedding, mode="append")
    records = SQLRecordManager("lancedb/squad", db_url=f"sqlite:///{folder}/records.sqlite")
    records.create_schema()
    done = index(
        _documents(corpus),
        records,
        store,
        cleanup="full",
        source_id_key="document_id",
        batch_size=100 if wire else 500,
        key_encoder="blake2b",
    )
    print(json.dumps(done))


def _model(model: str) -> Embeddings:
    if model.startswith("http"):
        from langchain_openai import OpenAIEmbeddings

        return OpenAIEmbeddings(
            model="text-embedding-3-small", base_url=model, chunk_size=100, check_embedding_ctx_length=False
        )
    from langchain_huggingface import HuggingFaceEmbeddings

    return HuggingFaceEmbeddings(model_name=model, encode_kwargs={"normalize_embeddings": True, "batch_size": 32})


def _documents(corpus: str) -> list[Document]:
    rows = [json.loads(line) for line in Path(corpus).read_text().splitlines()]
    return [Document(page_content=row.pop("text"), metadata=row) for row in rows]


if __name__ == "__main__":
    main()
