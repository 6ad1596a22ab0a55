"""Everything Squadron raises on purpose.

SquadronError
├── SettingsError        a setting is unknown, of the wrong type, or contradicts another (exit code 2)
├── SourceError          the corpus cannot be read, or holds what cannot be ingested
│   └── UnreachableSourceError   not now: it is worth trying again
├── GuardError           a guard refused the plan: too much would be deleted, quarantined or spent
├── EmbeddingError       the embedding service refused, or returned what cannot be stored
│   └── Busy..., Denied..., RefusedRequest... and RefusedTexts...: how, in embeddings/remote/failures.py
├── StoreError           the vector store refused, cannot be reached, or holds what it should not
│   ├── StaleLiveError   another run moved the live pointer first
│   └── StaleRecordError another run wrote the generation's record first
└── GateError            the candidate generation is not good enough to be promoted

Each message says what was found, what was wanted and what to do.
"""


class SquadronError(Exception):
    """Base of all of them: catch this to tell a refusal from a bug."""


class SettingsError(SquadronError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class SourceError(SquadronError):
    """The corpus cannot be read, or holds what cannot be ingested."""


class UnreachableSourceError(SourceError):
    """The corpus cannot be reached now; later it may be."""


class GuardError(SquadronError):
    """A guard refused the plan before anything was written."""


class EmbeddingError(SquadronError):
    """The embedding service refused, or returned what cannot be stored."""


class StoreError(SquadronError):
    """The vector store refused, cannot be reached, or holds what it should not."""


class StaleLiveError(StoreError):
    """Another run moved the live pointer since this one read it."""


class StaleRecordError(StoreError):
    """Another run wrote the generation's record since this one read it."""


class GateError(SquadronError):
    """The candidate generation is not good enough to be promoted."""
