"""Overlap: a thread makes what another will use next."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def made_ahead(items: Iterable[Item], most: int = 2) -> Iterator[Iterator[Item]]:
    """The items, made in a thread of their own, at most so many of them before they are asked for.

    An error in making them is raised here, after the items before it. However the block is left, the thread has
    ended then, and with it the making.
    """
    made: SimpleQueue[tuple[Item] | BaseException | None] = SimpleQueue()
    room, unwanted = Semaphore(most), Event()
    thread = Thread(target=_make, args=(items, made, room, unwanted), name="made ahead", daemon=True)
    thread.start()
    try:
        yield _taken(made, room)
    finally:
        unwanted.set()
        room.release()
        thread.join()


def _taken(made: "SimpleQueue[tuple[Item] | BaseException | None]", room: Semaphore) -> Iterator[Item]:
    while (found := made.get()) is not None:
        if isinstance(found, BaseException):
            raise found
        room.release()
        yield found[0]
        del found  # before the next is waited for: it may be large


def _make(
    items: Iterable[Item],
    made: "SimpleQueue[tuple[Item] | BaseException | None]",
    room: Semaphore,
    unwanted: Event,
) -> None:
    iterator = iter(items)
    try:
        while room.acquire() and not unwanted.is_set():
            made.put((next(iterator),))
    except StopIteration:
        made.put(None)
    except BaseException as error:  # the reader's to answer
        made.put(error)
    finally:
        if isinstance(iterator, Generator):
            iterator.close()
