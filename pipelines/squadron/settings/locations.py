"""Locations: where index, cache and staging are, in words."""

from pathlib import Path

from squadron.settings.home import home_and_reason
from squadron.settings.schema import Settings


def index_location(settings: Settings) -> str:
    """The store and its address, and what a relative path was taken from."""
    store = settings.store
    address: str = getattr(store, store.name).address
    if "://" in address or store.name != "lancedb":
        return f"{store.name} at {address}"
    absent = "" if Path(address).exists() else " (there is no such folder)"
    return f"{store.name} at {address}{absent}{_relative(Path(address))}"


def written_locations(settings: Settings) -> str:
    """One line: where a run writes."""
    store, cache = settings.store, settings.cache.path or "none"
    address = getattr(store, store.name).address
    return f"index: {store.name} at {address}, cache: {cache}, staging: {settings.ingest.staging}"


def _relative(path: Path) -> str:
    for folder, name in (home_and_reason(), (Path.cwd(), "the working directory")):
        if path.is_relative_to(folder):
            return f", which is {str(path.relative_to(folder))!r} below {name}"
    return ""
