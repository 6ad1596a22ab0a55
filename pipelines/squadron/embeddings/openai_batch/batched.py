"""Batched: what goes into OpenAI's Batch API, and what became of it; without the package openai."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

PENDING = ("validating", "in_progress", "finalizing", "cancelling")
"""The states of a batch that is still to be waited for."""
LONGEST_SECONDS = 26 * 3600
"""How long a batch may take: the service's day, and some slack."""


class EmbeddingText(NamedTuple):
    """What the model is to read."""

    text: str
    tokens: int
    """As the tokenizer counts them."""


class Spending(Protocol):
    """The budget of a run, as one of its shards sees it."""

    def owns(self, job: str) -> bool:
        """Whether it is this shard that counts what a job is billed, of all that have texts in it."""

    def admit_batch(self, job: str, estimated_tokens: int) -> None:
        """Take notice of a job that is to be submitted. Raises an error when the budget does not allow it."""

    def note_batch(self, job: str, billed_tokens: int) -> None:
        """Take notice of what a job that has ended was billed. Calling it again changes nothing."""


@dataclass(frozen=True)
class Batched:
    """What became of a shard's texts; small, and without the texts."""

    pending: tuple[str, ...] = ()
    """Ids of batches to wait for."""
    wait_seconds: float = 0.0
    """How long to wait before anything else, because the account's queue is full."""
    jobs: tuple[str, ...] = ()
    """Names of the jobs to forget when the vectors are in the store."""
    embedded: frozenset[str] = frozenset()
    """Keys of the texts whose vectors came from batches."""
    billed_tokens: tuple[tuple[str, int], ...] = ()
    """Names of jobs that have ended, and the tokens that the service says it billed for each."""
    reasons: tuple[tuple[str, str], ...] = ()
    """Key of each refused text, and what the service said."""
    seconds: float = field(default=0.0, compare=False)
    """Since the first of them was submitted."""

    @property
    def ready(self) -> bool:
        """Whether there is nothing to wait for."""
        return not self.pending and not self.wait_seconds
