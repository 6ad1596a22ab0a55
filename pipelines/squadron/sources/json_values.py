"""JSON values: a file that is one JSON value, or several one after the other over many lines."""

import json
from collections.abc import Iterator
from enum import Enum
from io import BufferedReader
from typing import Any

from squadron.sources.corpus_file import BrokenFileError

WANTED = "wanted SQuAD's data > paragraphs > context, a list of objects, or objects one after the other"
PEEKED_BYTES = 1 << 16


class Layout(Enum):
    """What the first line of a file of JSON is."""

    LINES = "a value, and more follows"
    WHOLE = "a value, and nothing follows"
    OPEN = "no value: broken, or the beginning of one"
    LONG = "too long to tell"


def layout_of(file: BufferedReader) -> Layout:
    """What the first line with anything on it is; the file is not read on."""
    beginning = file.peek(PEEKED_BYTES)[:PEEKED_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    line, end, rest = beginning.partition(b"\n")
    if not end and len(beginning) > PEEKED_BYTES // 2:
        return Layout.LONG
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return Layout.OPEN
    return Layout.LINES if rest.strip() else Layout.WHOLE


def whole(file: BufferedReader, most_bytes: int) -> bytes:
    """All of a file. Raises BrokenFileError when that is more than `source.max_json_bytes`."""
    content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise BrokenFileError(
            f"is JSON of more than source.max_json_bytes = {most_bytes}, and not one object on a line: write it so"
        )
    return content


def values_in(content: bytes) -> list[Any]:
    """The JSON values, one after the other. Raises BrokenFileError when there is anything else, or nothing."""
    try:
        values = list(_decoded(content.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise BrokenFileError(f"is not JSON ({type(error).__name__}: {str(error)[:200]}): {WANTED}") from error
    if not values:
        raise BrokenFileError(f"is not JSON (it is empty): {WANTED}")
    return values


def _decoded(text: str) -> Iterator[Any]:
    decoder, at = json.JSONDecoder(), _after_blanks(text, 0)
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        yield value
        at = _after_blanks(text, end)


def _after_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
