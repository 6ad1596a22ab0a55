"""Passages: documents cut to what the model reads, on sentence boundaries where possible."""

import pyarrow as pa
from hamilton.function_modifiers import config
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from pipelines.errors import SettingsError, SourceError

MAX_PASSAGES = 0xFFFF
MIN_TOKENS = 16
# The splitter's time grows with the square of a text: it is shown this much at once, some ten passages of prose.
WINDOW_CHARACTERS_PER_TOKEN = 48


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


def passages(
    changed_documents: pa.Table,
    tokenizer: Tokenizer,
    text_template: str,
    passage_tokens: int,
    overlap_tokens: int,
) -> pa.Table:
    """The passages of the documents, in their order.

    Columns: id, document_id, title, ordinal, text, tokens (of the embedded text, special ones included), then
    the metadata columns. An id is 32 hex digits: the document's digest (24), the ordinal (4) and the number of
    passages of the document (4). No passage has more than `passage_tokens`; together they hold all the text.
    """
    titles, texts = changed_documents["title"].to_pylist(), changed_documents["text"].to_pylist()
    counts = _token_counts(tokenizer, [_rendered(text_template, *row) for row in zip(titles, texts, strict=True)])
    sources, ids, ordinals, pieces, tokens = [], [], [], [], []
    for row, digest in enumerate(changed_documents["digest"].to_pylist()):
        fitting = [(texts[row], counts[row])]
        if counts[row] > passage_tokens:
            titles[row], fitting = _cut(
                tokenizer, text_template, titles[row], texts[row], passage_tokens, overlap_tokens
            )
        if len(fitting) > MAX_PASSAGES:
            raise SourceError(
                f"document {changed_documents['document_id'][row]} makes {len(fitting)} passages, at most "
                f"{MAX_PASSAGES} can be numbered: split the document"
            )
        for ordinal, (piece, size) in enumerate(fitting):
            sources.append(row)
            ids.append(f"{digest.hex()}{ordinal:04x}{len(fitting):04x}")
            ordinals.append(ordinal)
            pieces.append(piece)
            tokens.append(size)
    table = changed_documents.take(pa.array(sources, pa.int64())).drop_columns(["digest", "text"])
    return pa.table(
        {
            "id": pa.array(ids, pa.string()),
            "document_id": table["document_id"],
            "title": pa.array([titles[row] for row in sources], pa.string()),
            "ordinal": pa.array(ordinals, pa.int32()),
            "text": pa.array(pieces, pa.string()),
            "tokens": pa.array(tokens, pa.int32()),
        }
        | {name: table[name] for name in table.column_names[2:]}
    )


def embedding_texts(passages: pa.Table, text_template: str) -> list[str]:
    """What the model reads for each passage: the template, filled."""
    rows = zip(passages["title"].to_pylist(), passages["text"].to_pylist(), strict=True)
    return [_rendered(text_template, title, text) for title, text in rows]


def _rendered(template: str, title: str, text: str) -> str:
    # Documents are data: the braces of the template are filled, theirs are not looked at.
    return template.format(title=title, text=text).lstrip("\n")


def _token_counts(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    return [len(encoding) for encoding in tokenizer.encode_batch_fast(texts)]


def _cut(
    tokenizer: Tokenizer, template: str, title: str, text: str, limit: int, overlap: int
) -> tuple[str, list[tuple[str, int]]]:
    """The title and the text's pieces with their token counts.

    A title that takes more than half of a passage is not repeated in each: it becomes the head of the text.
    """
    (frame,) = _token_counts(tokenizer, [_rendered(template, title, "")])
    if frame > limit // 2:
        text, title = _rendered(template, title, text), ""
        (frame,) = _token_counts(tokenizer, [_rendered(template, "", "")])
    # Tokens across a seam may join or split, so a piece can turn out longer than its parts: then try shorter.
    for share in (1.0, 0.9, 0.75, 0.5):
        capacity = int((limit - frame) * share)
        pieces = _pieces(tokenizer, text, capacity, min(overlap, capacity // 2))
        counts = _token_counts(tokenizer, [_rendered(template, title, piece) for piece in pieces])
        if max(counts) <= limit:
            return title, list(zip(pieces, counts, strict=True))
    raise SourceError(f"a text cannot be cut into passages of {limit} tokens: raise passages.max_tokens")


def _pieces(tokenizer: Tokenizer, text: str, capacity: int, overlap: int) -> list[str]:
    """The text in pieces of at most `capacity` tokens; only white space between two of them is left out."""

    def size(part: str) -> int:
        return len(tokenizer.encode_batch_fast([part], add_special_tokens=False)[0])

    splitter = TextSplitter.from_callback(size, capacity, overlap=overlap)
    pieces: list[str] = []
    start, window = 0, capacity * WINDOW_CHARACTERS_PER_TOKEN
    while start + window < len(text):
        found = splitter.chunk_indices(text[start : start + window])
        # The last piece ends where the window does: it is cut again, together with what follows.
        pieces += [piece for _, piece in found[:-1] or found]
        start += found[-1][0] if len(found) > 1 else window
    return pieces + splitter.chunks(text[start:])
