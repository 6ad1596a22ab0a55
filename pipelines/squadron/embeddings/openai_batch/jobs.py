"""Jobs: the texts that went to OpenAI's Batch API, remembered beside the cache until they are done with.

A job is a set of texts of one vector space, known by their keys; its name is a digest of these. It is written
down before it is submitted, and its name goes with the batch. Whoever comes back after a crash, on another machine
or with a corpus that changed since, learns here which texts are under way, and from the service in which batch.
"""

import json
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import fsspec

from squadron.cache.keys import space_digest, text_digest
from squadron.errors import StoreError
from squadron.process.atomic_file import AtomicFile

log = logging.getLogger(__name__)

KEPT_SECONDS = 7 * 86_400
"""A job that was begun longer ago is forgotten: what nobody came back for in a week is submitted anew."""


@dataclass(frozen=True)
class Job:
    """Texts that go into one batch."""

    name: str
    """32 hex digits: a digest of the vector space and the texts."""
    keys: frozenset[str]
    """`text_digest` of each of its texts, in hex."""
    since: float
    """Unix time at which it was first written down."""
    billed_tokens: int = 0
    """What the service billed for it, once that is known."""


class Jobs:
    """The open jobs of one vector space, in a folder of the cache that all workers share."""

    def __init__(self, cache_path: str, vector_space: Mapping[str, str]) -> None:
        self._filesystem, root = fsspec.core.url_to_fs(cache_path)
        self._space = space_digest(vector_space)
        self._folder = f"{root.rstrip('/')}/batches/{self._space}"

    def of(self, keys: Collection[str]) -> list[Job]:
        """The open jobs that hold any of these texts, the oldest first."""
        jobs = [job for job in map(self._read, self._names()) if job and not job.keys.isdisjoint(keys)]
        return sorted(jobs, key=lambda job: job.since)

    def opened(self, keys: Collection[str]) -> Job:
        """The job of exactly these texts, written down."""
        name = text_digest("\n".join([self._space, *sorted(keys)])).hex()
        return self._read(name) or self.written(Job(name, frozenset(keys), time.time()))

    def written(self, job: Job) -> Job:
        """Write a job down, in place of what was known of it."""
        target = self._path(job.name)
        record = {"since": job.since, "tokens": job.billed_tokens, "texts": sorted(job.keys)}
        try:
            with AtomicFile(self._filesystem, target) as file:
                file.write(json.dumps(record).encode())
        except OSError as error:
            raise StoreError(f"cache.path: {target} cannot be written: {error.strerror or error}") from error
        return job

    def close(self, name: str) -> None:
        """Forget a job."""
        try:
            self._filesystem.rm_file(self._path(name))
        except FileNotFoundError:
            pass  # another worker was done with it, too
        except OSError as error:
            raise StoreError(f"cache.path: {self._path(name)} cannot be removed: {error.strerror or error}") from error

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}.json"

    def _names(self) -> list[str]:
        try:
            files = self._filesystem.ls(self._folder, detail=False)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cache.path: {self._folder} cannot be read: {error.strerror or error}") from error
        return [file.rpartition("/")[2].removesuffix(".json") for file in files if file.endswith(".json")]

    def _read(self, name: str) -> Job | None:
        try:
            with self._filesystem.open(self._path(name), "rb") as file:
                record = json.load(file)
            job = Job(name, frozenset(record["texts"]), float(record["since"]), int(record["tokens"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("the job %s cannot be read and is passed over: %s", self._path(name), error)
            return None
        if time.time() - job.since > KEPT_SECONDS:
            self.close(name)
            return None
        return job
