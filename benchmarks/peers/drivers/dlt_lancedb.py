"""dlt: its LanceDB destination. `dlt_lancedb.py MODEL CORPUS FOLDER`.

As its page on LanceDB has it: `lancedb_adapter(embed=...)` on a resource that is merged on its primary key; LanceDB's
own embedding functions embed whatever a load brings. This corpus is a snapshot without a cursor: dlt's incremental
loading, which needs one, cannot tell what changed. A merge deletes nothing that left the corpus;
`write_disposition="replace"` would, and empties the table before it embeds. Its filters quote strings in a way that
LanceDB refuses since 0.38: an older one is installed.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def main() -> None:
    """One load of the corpus."""
    model, corpus, folder = sys.argv[1:]
    os.environ["NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID"] = "true"
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    import dlt
    from dlt.destinations import lancedb
    from dlt.destinations.adapters import lancedb_adapter

    provider = {"embedding_model_provider": "sentence-transformers", "embedding_model": model}
    if model.startswith("http"):
        provider = {
            "embedding_model_provider": "openai",
            "embedding_model": "text-embedding-3-small",
            "embedding_model_provider_host": model,
        }
        os.environ["DESTINATION__LANCEDB__CREDENTIALS__EMBEDDING_MODEL_PROVIDER_API_KEY"] = os.environ["OPENAI_API_KEY"]
        os.environ["DATA_WRITER__FILE_MAX_ITEMS"] = os.environ["DATA_WRITER__BUFFER_MAX_ITEMS"] = "100"

    @dlt.resource(name="documents", primary_key="document_id", write_disposition="merge")
    def documents() -> Iterator[list[dict]]:
        yield [json.loads(line) for line in Path(corpus).read_text().splitlines()]

    pipeline = dlt.pipeline(
        "squad",
        pipelines_dir=f"{folder}/dlt",
        destination=lancedb(lance_uri=f"{folder}/lancedb", **provider),
        dataset_name="squad",
    )
    print(pipeline.run(lancedb_adapter(documents, embed="text")))


if __name__ == "__main__":
    main()
