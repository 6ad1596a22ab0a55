"""Target: the generation that a run plans for, and what it holds already."""

from dataclasses import dataclass

from squadron.dataflow.changes import StoredDocuments
from squadron.dataflow.vector_space import generation_name, vector_space
from squadron.generations.catalog import Generations
from squadron.generations.record import GenerationRecord
from squadron.settings.schema import Settings


@dataclass(frozen=True)
class Target:
    """The generation that is planned for, and what there is already."""

    generation: str
    space: dict[str, str]
    catalog: Generations
    stored: StoredDocuments
    version: int | None
    """What the generation was at when the gate let it pass last; None while there is none, or where the store keeps no
    versions."""

    @property
    def record(self) -> GenerationRecord:
        """The generation's record; an empty one while it is not there."""
        return self.catalog.get(self.generation)

    @property
    def live(self) -> str | None:
        """The generation that is live."""
        return self.catalog.live

    @property
    def has_siblings(self) -> bool:
        """Whether the collection has other generations."""
        return any(name != self.generation for name in self.catalog)

    @property
    def replaced(self) -> str | None:
        """The live generation that this one is to take the place of, if it is another."""
        return self.live if self.live in self.catalog and self.live != self.generation else None


def target_of(settings: Settings, catalog: Generations) -> Target:
    """The generation of these settings."""
    space = vector_space(settings)
    generation = generation_name(settings.collection, space)
    if generation not in catalog:
        stored: StoredDocuments = catalog.graph.value("stored_documents", stored_ids=[])
        return Target(generation, space, catalog, stored, None)
    values = catalog.values(generation, "stored_documents", "version")
    version = values["version"]
    # A run that changed the generation and was not let pass, or died before that, has left what to return to.
    if generation == catalog.live and catalog[generation].base_version is not None:
        version = catalog[generation].base_version
    return Target(generation, space, catalog, values["stored_documents"], version)
