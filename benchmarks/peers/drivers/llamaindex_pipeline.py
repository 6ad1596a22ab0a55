"""LlamaIndex: IngestionPipeline. `llamaindex_pipeline.py MODEL CORPUS FOLDER`.

A splitter, a model, a document store and a vector store, `upserts_and_delete`, loaded before and persisted after the
run, as its documentation has it. Splitter: its default, 1,024 tokens, which cuts no context of SQuAD. Metadata is kept
out of what is embedded, so that all tools embed the same texts. Local: 32 texts a call (the default is 10); OpenAI:
100, its default. Its filters quote strings in a way that LanceDB refuses since 0.38 (run-llama/llama_index#23086): an
older one is installed.
"""

import json
import sys
from pathlib import Path

from llama_index.core import Document
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import TransformComponent
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.vector_stores.lancedb import LanceDBVectorStore


def main() -> None:
    """One sync of the corpus."""
    model, corpus, folder = sys.argv[1:]
    state = f"{folder}/pipeline_storage"
    pipeline = IngestionPipeline(
        transformations=[SentenceSplitter(), _model(model)],
        vector_store=LanceDBVectorStore(uri=f"{folder}/lancedb", table_name="vectors"),
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )
    if Path(state).exists():
        pipeline.load(state)
    nodes = pipeline.run(documents=_documents(corpus))
    pipeline.persist(state)
    print(len(nodes))


def _model(model: str) -> TransformComponent:
    if model.startswith("http"):
        from llama_index.embeddings.openai import OpenAIEmbedding

        return OpenAIEmbedding(model="text-embedding-3-small", api_base=model, embed_batch_size=100)
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    return HuggingFaceEmbedding(model_name=model, embed_batch_size=32)


def _documents(corpus: str) -> list[Document]:
    rows = [json.loads(line) for line in Path(corpus).read_text().splitlines()]
    return [
        Document(
            id_=row["document_id"],
            text=row.pop("text"),
            metadata=row,
            excluded_embed_metadata_keys=list(row),
        )
        for row in rows
    ]


if __name__ == "__main__":
    main()
