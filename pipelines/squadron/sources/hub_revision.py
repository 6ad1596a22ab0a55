"""Hub revision: which commit of a data set of the Hugging Face Hub is read, with the hub and without it.

Offline, the `datasets` library takes the newest copy in its cache, whatever revision was asked for. Here a commit is
that commit, or it is not there.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from squadron.errors import SourceError, UnreachableSourceError

DEFAULT_ID = "rajpurkar/squad"
HUB_URI = "hf://datasets/"
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def name_on_hub(path: str | None) -> str:
    """`ORG/NAME` of the data set that a source's path names. Raises SourceError for anything else."""
    if not path:
        return DEFAULT_ID
    name = path.removeprefix(HUB_URI).strip("/")
    if not _NAME.fullmatch(name) or ".." in name:
        raise SourceError(
            f"source.path {path!r} names no data set of the hub: wanted {HUB_URI}ORG/NAME; a folder is named without "
            f"{HUB_URI}, single files of a data set are read with source.name=files"
        )
    return name


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit, and no tag or branch that may move."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def commit_of(name: str, revision: str | None) -> str | None:
    """The commit that a revision of a data set stands for; None: the default revision of one that nobody knows of.

    Raises SourceError when the hub has no such revision, UnreachableSourceError when it cannot be asked and the cache
    does not know.
    """
    if is_commit(revision):
        return revision
    from huggingface_hub import constants

    commit = None if constants.is_offline_mode() else _commit_on_hub(name, revision)
    commit = commit or (_commit_in_cache(name, revision) if revision else _newest_commit(name))
    if revision and not commit:
        raise UnreachableSourceError(
            f"revision {revision!r} of data set {name!r} is not in the local cache, and the hub cannot be asked which "
            "commit it is: go online, or set source.revision to a commit that was read before"
        )
    return commit


def cached_dataset(name: str, commit: str, config: str | None, split: str) -> Any | None:
    """The split of this commit from the cache of the `datasets` library; None when it is not there."""
    from datasets.packaged_modules.cache.cache import Cache

    folders = [folder for folder in _cached_folders(name) if folder.name == commit]
    folders = [folder for folder in folders if config in (None, folder.parts[-3])]
    if len(folders) != 1:
        return None
    (folder,) = folders
    short = name.rpartition("/")[2]
    builder = Cache(
        dataset_name=short, repo_id=name, config_name=folder.parts[-3], version=folder.parts[-2], hash=commit
    )
    return builder.as_dataset(split=split)


def _commit_on_hub(name: str, revision: str | None) -> str | None:
    """What the hub says; None when it does not answer, or does not have the data set."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    api = HfApi()
    try:
        commit = api.dataset_info(name, revision=revision, timeout=100).sha
        if revision:
            with suppress(EntryNotFoundError):  # the client remembers which commit this revision is
                api.hf_hub_download(name, "README.md", repo_type="dataset", revision=revision)
    except RevisionNotFoundError as error:
        raise SourceError(f"data set {name!r} has no revision {revision!r}: set source.revision to another") from error
    except RepositoryNotFoundError:  # whoever loads it says so
        return None
    except OSError:  # HTTP errors of the client, time-outs and lost connections among them
        return None
    return commit


def _commit_in_cache(name: str, revision: str) -> str | None:
    from huggingface_hub import constants

    file = Path(constants.HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}", "refs", revision)
    return file.read_text().strip() if ".." not in revision and file.is_file() else None


def _newest_commit(name: str) -> str | None:
    folders = sorted(_cached_folders(name), key=lambda folder: folder.stat().st_mtime)
    return folders[-1].name if folders else None


def _cached_folders(name: str) -> list[Path]:
    """Folders of what the `datasets` library has prepared: CONFIG/VERSION/COMMIT."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    organisation, _, short = name.partition("/")
    root = Path(config.HF_DATASETS_CACHE, f"{organisation}___{camelcase_to_snakecase(short)}")
    return [folder for folder in root.glob("*/*/*") if folder.is_dir() and is_commit(folder.name)]
