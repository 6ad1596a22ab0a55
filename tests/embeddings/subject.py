"""The subject of the contract: a service's module with settings, whose nodes are computed as the graph would."""

from dataclasses import dataclass, field
from inspect import signature
from types import ModuleType
from typing import Any

import numpy as np
from pydantic import BaseModel

from tests.wire.embedding_service import EmbeddingServer

GIVEN = ("embedding_texts", "query_texts")


@dataclass
class Service:
    """An embedding module and the settings to call it with."""

    module: ModuleType
    settings: BaseModel
    server: EmbeddingServer | None = None
    secret: str | None = None
    """What no message, log or repr may show."""
    _kept: dict[str, Any] = field(default_factory=dict, repr=False)

    def value(self, node: str, **given: Any) -> Any:
        """The value of a node, and of those before it; each is computed once, but for what texts decide."""
        values = {"embedding_settings": self.settings} | self._kept | given
        if node in values:
            return values[node]
        function = getattr(self.module, node)
        names = [name for name, given in signature(function).parameters.items() if given.default is given.empty]
        found = function(**{name: self.value(name, **given) for name in names})
        if not set(names) & set(GIVEN):
            self._kept[node] = found
        return found

    def passages(self, texts: list[str]) -> np.ndarray:
        """The vectors of passages."""
        return self.value("embeddings", embedding_texts=texts)

    def questions(self, texts: list[str]) -> np.ndarray:
        """The vectors of questions."""
        return self.value("query_vectors", query_texts=texts)

    @property
    def dimension(self) -> int:
        return self.value("dimension")

    @property
    def model(self) -> Any:
        return self.value("model")

    def having(self, **changes: Any) -> "Service":
        """The same service with other settings, validated anew; nothing computed is taken along."""
        settings = type(self.settings).model_validate(self.settings.model_dump() | changes)
        return Service(self.module, settings, self.server, self.secret)


def numbered(count: int) -> list[str]:
    """Texts of different lengths, all different, in an order that is not that of their lengths."""
    return [f"passage {number} " + "of many words " * (number * 7 % 11) for number in range(count)]
