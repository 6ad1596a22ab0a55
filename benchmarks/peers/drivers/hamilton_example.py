"""Hamilton: its modular LLM stack, brought up to date. `hamilton_example.py MODEL CORPUS FOLDER`.

As the example does (examples/LLM_Workflows/modular_llm_stack: LanceDB with sentence-transformers or OpenAI), a run
reads the whole corpus, embeds all of it in one graph, and overwrites the table. It knows no earlier run: nothing is
skipped, and nothing stale is left. `encode` sorts all texts by length itself; 32 a batch is its default.
"""

import json
import sys
from pathlib import Path

import lancedb
from hamilton import driver
from hamilton.function_modifiers import config

Rows = list[dict]


def documents(corpus: str) -> Rows:
    """The documents of the corpus, JSON lines."""
    return [json.loads(line) for line in Path(corpus).read_text().splitlines()]


def text_contents(documents: Rows) -> list[str]:
    """What is embedded."""
    return [document["text"] for document in documents]


@config.when(embedding_service="sentence_transformer")
def embeddings__sentence_transformer(text_contents: list[str], model_name: str) -> list:
    """Vectors of a local model."""
    from sentence_transformers import SentenceTransformer

    return list(SentenceTransformer(model_name).encode(text_contents, normalize_embeddings=True))


@config.when(embedding_service="openai")
def embeddings__openai(text_contents: list[str], model_name: str, base_url: str) -> list:
    """Vectors of the service, 100 texts a request."""
    from openai import OpenAI

    client, vectors = OpenAI(base_url=base_url), []
    for start in range(0, len(text_contents), 100):
        answer = client.embeddings.create(input=text_contents[start : start + 100], model=model_name)
        vectors += [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]
    return vectors


def data_objects(documents: Rows, embeddings: list) -> Rows:
    """What the table holds."""
    return [{**document, "vector": vector} for document, vector in zip(documents, embeddings, strict=True)]


def push_to_vector_db(uri: str, class_name: str, data_objects: Rows) -> int:
    """The number of rows, after the table was overwritten."""
    return lancedb.connect(uri).create_table(class_name, data=data_objects, mode="overwrite").count_rows()


if __name__ == "__main__":
    model, corpus_path, folder = sys.argv[1:]
    wire = model.startswith("http")
    graph = (
        driver.Builder()
        .with_modules(sys.modules[__name__])
        .with_config({"embedding_service": "openai" if wire else "sentence_transformer"})
        .build()
    )
    chosen = {"model_name": "text-embedding-3-small", "base_url": model} if wire else {"model_name": model}
    places = {"corpus": corpus_path, "uri": f"{folder}/lancedb", "class_name": "SQuADEntry"}
    print(graph.execute(["push_to_vector_db"], inputs=chosen | places))
