"""Guards: a corpus that cannot be what its owner wants to be indexed is refused before anything is changed."""

from collections.abc import Callable

from squadron.corpus.reading import Corpus
from squadron.dataflow.digests import Digests
from squadron.errors import GuardError, SourceError
from squadron.settings.schema import Settings


def check_corpus(
    settings: Settings, corpus: Corpus, live_documents: int | None, retitled: Callable[[], int] = lambda: 0
) -> None:
    """Raise when the corpus is empty, or much of it cannot be read, or it shrank by more than the guard allows.

    `live_documents`: how many the live generation holds, when another one is to take its place. `retitled` counts the
    vanished documents that are there under another title; it is asked before the guard refuses.
    Raises SourceError or GuardError, before anything was changed.
    """
    _refuse_empty(settings, corpus)
    _refuse_unreadable(settings, corpus)
    allowed = settings.guard.max_deleted_fraction
    deleted_fraction = corpus.vanished_fraction()
    if deleted_fraction > allowed and not settings.source.columns.document_id:
        deleted_fraction = corpus.vanished_fraction(retitled())
    if live_documents:
        deleted_fraction = max(deleted_fraction, 1 - corpus.documents / live_documents)
    if deleted_fraction > allowed:
        within = f", as far as source.limit = {settings.source.limit} lets it be read," if corpus.limited else ""
        raise GuardError(
            f"the corpus{within} lacks {deleted_fraction:.1%} of the documents in the store: "
            f"guard.max_deleted_fraction allows {allowed:.1%}. Nothing was "
            "changed. If they are to be deleted, raise it for this run; if this is another corpus, give it "
            "a collection of its own"
        )


def check_candidate(corpus: Corpus, live: Digests) -> None:
    """Raise GuardError when a new generation would lack documents of the live one that cannot be read now."""
    if lacking := int(corpus.withheld(live).sum()):
        raise GuardError(
            f"a new generation would lack {lacking} documents of the live one, for they are, or may be, what "
            f"cannot be read of the corpus: {corpus.unread.shown() or 'rows without a text'}. Mend it, or take it "
            "out of the corpus. Nothing was changed"
        )


def _refuse_empty(settings: Settings, corpus: Corpus) -> None:
    if corpus.documents:
        return
    where = settings.source.path or settings.source.name
    if corpus.unread.items:
        raise SourceError(f"nothing of the corpus {where} can be read: {corpus.unread.shown()}. Nothing was changed")
    blank = corpus.blank + corpus.without_document
    rows = f"{blank} rows, none of them with a text" if blank else "no rows"
    raise SourceError(f"the corpus {where} has {rows}: nothing was changed. Check source.columns.text")


def _refuse_unreadable(settings: Settings, corpus: Corpus) -> None:
    allowed = settings.guard.max_quarantined_fraction
    for share, words in corpus.unread.shares(corpus.rows, corpus.blank):
        if share > allowed:
            first = f" First of what cannot be read: {corpus.unread.shown()}." if corpus.unread.items else ""
            raise GuardError(
                f"{words} ({share:.1%}): guard.max_quarantined_fraction allows {allowed:.1%}.{first} "
                "Mend the corpus, or raise that for this run"
            )
