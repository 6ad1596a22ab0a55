"""Cuts: where a document is divided into passages, and the tokens of each."""

from bisect import bisect_left
from collections.abc import Callable

import pyarrow as pa
from semantic_text_splitter import TextSplitter
from tokenizers import Tokenizer

from squadron.dataflow.filling import filled
from squadron.embeddings.tokenization import token_counts
from squadron.errors import SourceError

MAX_PASSAGES = 0xFFFF
# The splitter's time grows with the square of a text: it is shown this much at once, some ten passages of prose.
WINDOW_CHARACTERS_PER_TOKEN = 48

_INTEGERS = pa.list_(pa.int32())
CUTS_SCHEMA = pa.schema([("titled", pa.bool_()), ("starts", _INTEGERS), ("ends", _INTEGERS), ("tokens", _INTEGERS)])
"""A row for each document: whether its title is repeated in each passage, where each of them begins and ends
(characters), and its tokens, title and special ones included. A title that is not repeated is the head of the text."""

Piece = tuple[int, int, int]
"""Beginning, end, tokens."""
_Counting = Callable[[Tokenizer, str], Callable[[str], int]]


def cuts(
    changed_documents: pa.Table,
    tokenizer: Tokenizer,
    text_template: str,
    passage_tokens: int,
    overlap_tokens: int,
) -> pa.Table:
    """Where the documents are cut, as `CUTS_SCHEMA` says, in their order.

    Raises SourceError when a document cannot be cut so that each passage has at most `passage_tokens`.
    """
    titles, texts = changed_documents["title"].to_pylist(), changed_documents["text"].to_pylist()
    counts = token_counts(tokenizer, [filled(text_template, *row) for row in zip(titles, texts, strict=True)])
    titled, pieces = [], []
    for row, (title, text) in enumerate(zip(titles, texts, strict=True)):
        repeated, document_pieces = True, [(0, len(text), counts[row])]
        if counts[row] > passage_tokens:
            repeated, document_pieces = _cut(tokenizer, text_template, title, text, passage_tokens, overlap_tokens)
        if len(document_pieces) > MAX_PASSAGES:
            raise SourceError(
                f"document {changed_documents['document_id'][row]} makes {len(document_pieces)} passages, at most "
                f"{MAX_PASSAGES} can be numbered: split the document"
            )
        titled.append(repeated)
        pieces.append(document_pieces)
    columns = [[[piece[part] for piece in document_pieces] for document_pieces in pieces] for part in range(3)]
    return pa.table(dict(zip(CUTS_SCHEMA.names, [titled, *columns], strict=True)), CUTS_SCHEMA)


def _cut(
    tokenizer: Tokenizer, template: str, title: str, text: str, limit: int, overlap: int
) -> tuple[bool, list[Piece]]:
    """Whether the title is repeated, and the text's pieces.

    A title that takes more than half of a passage is not repeated in each: it becomes the head of the text.
    """
    (frame,) = token_counts(tokenizer, [filled(template, title, "")])
    repeated = frame <= limit // 2
    if not repeated:
        text, title = filled(template, title, text), ""
        (frame,) = token_counts(tokenizer, [filled(template, "", "")])
    for share, counting in _TRIES:
        capacity = int((limit - frame) * share)
        spans = _spans(tokenizer, text, capacity, min(overlap, capacity // 2), counting)
        counts = token_counts(tokenizer, [filled(template, title, text[start:end]) for start, end in spans])
        if max(counts) <= limit:
            return repeated, [(*span, tokens) for span, tokens in zip(spans, counts, strict=True)]
    raise SourceError(f"a text cannot be cut into passages of {limit} tokens: raise passages.max_tokens")


def _spans(tokenizer: Tokenizer, text: str, capacity: int, overlap: int, counting: _Counting) -> list[tuple[int, int]]:
    """The text in pieces of about `capacity` tokens; only white space between two of them is left out."""
    spans: list[tuple[int, int]] = []
    start, window = 0, capacity * WINDOW_CHARACTERS_PER_TOKEN
    while True:
        shown = text[start : start + window]
        splitter = TextSplitter.from_callback(counting(tokenizer, shown), capacity, overlap=overlap)
        pieces = [(start + at, start + at + len(piece)) for at, piece in splitter.chunk_indices(shown)]
        if start + window >= len(text):
            return spans + pieces
        # The last piece ends where the window does: it is cut again, with the text that follows.
        spans += pieces[:-1] or pieces
        start = pieces[-1][0] if len(pieces) > 1 else start + window


def _within(tokenizer: Tokenizer, text: str) -> Callable[[str], int]:
    """Counts the tokens of a part by those of the text that begin in it; the text becomes tokens once."""
    starts = [start for start, _ in tokenizer.encode(text, add_special_tokens=False).offsets]

    def size(part: str) -> int:
        at = text.find(part)
        return bisect_left(starts, at + len(part)) - bisect_left(starts, at)

    return size


def _alone(tokenizer: Tokenizer, text: str) -> Callable[[str], int]:
    """Counts the tokens of a part by itself."""
    return lambda part: len(tokenizer.encode_batch_fast([part], add_special_tokens=False)[0])


_TRIES = ((1.0, _within), (0.9, _within), (1.0, _alone), (0.9, _alone), (0.75, _alone), (0.5, _alone))
"""Shares of the room for a text, and ways to count. Tokens across a seam may join or split, so a piece can turn out
longer than its parts: then a shorter one is tried, and at last each part is counted by itself."""
