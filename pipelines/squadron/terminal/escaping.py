"""Visible: texts of documents and services as they may be written to a terminal or a log.

What a terminal takes for a command (escape sequences, a line that begins anew, a change of the direction of writing)
is shown as Python writes it, `\\x1b`, and does nothing.
"""

import logging
import re

_COMMANDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, ends of lines, embeddings and overrides of direction, and what cannot be encoded."""


def visible(text: str) -> str:
    """The text on one line, its control characters spelled out."""
    return _COMMANDS.sub(lambda found: repr(found[0])[1:-1], text)


def visible_lines(text: str) -> str:
    """The same of a text of several lines, which stay lines."""
    return "\n".join(map(visible, text.split("\n")))


class VisibleFormatter(logging.Formatter):
    """Writes records as the usual one does: their messages on one line, the lines of an exception below."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The message."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's name
        """The exception."""
        return visible_lines(super().formatException(ei))  # type: ignore[arg-type]
