"""Overlap: a thread makes what another will use next."""

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

Item = TypeVar("Item")


@contextmanager
def prefetched(items: Iterable[Item], most: int = 2) -> Iterator[Iterator[Item]]:
    """The items, made in a thread of their own, at most so many of them before they are asked for.

    An error in making them is raised here, after the items before it. However the block is left, the thread has
    ended then, and with it the making.
    """
    ready: SimpleQueue[tuple[Item] | BaseException | None] = SimpleQueue()
    room, unwanted = Semaphore(most), Event()
    thread = Thread(target=_make, args=(items, ready, room, unwanted), name="prefetch", daemon=True)
    thread.start()
    try:
        yield _taken(ready, room)
    finally:
        unwanted.set()
        room.release()
        thread.join()


def _taken(ready: "SimpleQueue[tuple[Item] | BaseException | None]", room: Semaphore) -> Iterator[Item]:
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        room.release()
        yield item[0]
        del item  # before the next is waited for: it may be large


def _make(
    items: Iterable[Item],
    ready: "SimpleQueue[tuple[Item] | BaseException | None]",
    room: Semaphore,
    unwanted: Event,
) -> None:
    iterator = iter(items)
    try:
        while room.acquire() and not unwanted.is_set():
            ready.put((next(iterator),))
    except StopIteration:
        ready.put(None)
    except BaseException as error:  # the reader's to answer
        ready.put(error)
    finally:
        if isinstance(iterator, Generator):
            iterator.close()
