"""Passages: documents cut to what the model reads, on sentence boundaries where possible."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from squadron.dataflow.filling import filled
from squadron.errors import SettingsError
from squadron.process.hamilton_runtime import config

MIN_TOKENS = 16


@config.when(template="title_text_v1")
def text_template__title_text_v1() -> str:
    """A title gives a passage the subject that its sentences take for granted."""
    return "{title}\n{text}"


@config.when(template="plain_v1")
def text_template__plain_v1() -> str:
    """The text as it is."""
    return "{text}"


def passage_tokens(model_max_tokens: int, max_tokens: int | None) -> int:
    """Tokens that one passage may have, template and special tokens included."""
    if max_tokens and max_tokens > model_max_tokens:
        raise SettingsError(
            f"passages.max_tokens is {max_tokens}, but the model reads {model_max_tokens}: "
            "what follows would be cut off silently. Lower it"
        )
    if model_max_tokens < MIN_TOKENS:
        raise SettingsError(
            f"the model reads {model_max_tokens} tokens beside its prompt, wanted at least {MIN_TOKENS}: "
            "shorten the prompt, or choose another model"
        )
    return max_tokens or model_max_tokens


def passages(changed_documents: pa.Table, cuts: pa.Table, text_template: str) -> pa.Table:
    """The passages of the documents, in their order.

    Columns: id, document_id, title, ordinal, text, tokens (of the embedded text, special ones included), then
    the metadata columns. An id is 32 hex digits: the document's digest (24), the ordinal (4) and the number of
    passages of the document (4). No passage has more than `passage_tokens`; together they hold all the text.
    """
    titles, texts = changed_documents["title"].to_pylist(), changed_documents["text"].to_pylist()
    for row in np.flatnonzero(~cuts["titled"].to_numpy()):
        titles[row], texts[row] = "", filled(text_template, titles[row], texts[row])
    counts = pc.list_value_length(cuts["tokens"]).to_numpy()
    sources = np.repeat(np.arange(len(counts)), counts)
    ordinals = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
    digests = [digest.hex() for digest in changed_documents["digest"].to_pylist()]
    starts, ends, tokens = (pc.list_flatten(cuts[name]).combine_chunks() for name in ("starts", "ends", "tokens"))
    spans = zip(sources.tolist(), starts.to_pylist(), ends.to_pylist(), strict=True)
    numbers = zip(sources.tolist(), ordinals.tolist(), strict=True)
    table = changed_documents.take(pa.array(sources)).drop_columns(["digest", "text"])
    return pa.table(
        {
            "id": pa.array([f"{digests[row]}{number:04x}{counts[row]:04x}" for row, number in numbers], pa.string()),
            "document_id": table["document_id"],
            "title": pa.array([titles[row] for row in sources], pa.string()),
            "ordinal": pa.array(ordinals, pa.int32()),
            "text": pa.array([texts[row][start:end] for row, start, end in spans], pa.string()),
            "tokens": tokens,
        }
        | {name: table[name] for name in table.column_names[2:]}
    )


def embedding_texts(passages: pa.Table, text_template: str) -> list[str]:
    """What the model reads for each passage: the template, filled."""
    rows = zip(passages["title"].to_pylist(), passages["text"].to_pylist(), strict=True)
    return [filled(text_template, title, text) for title, text in rows]
