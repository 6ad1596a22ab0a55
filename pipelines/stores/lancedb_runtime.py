"""LanceDB, imported without the REST client that it brings for Lance's namespace services.

`import lancedb` takes 1.2 s of processor time, 0.75 of them for the `__init__` of that client: 366 generated methods,
for each of which pydantic makes a validator. A folder or an object store is reached without it. So its `__init__`
waits until something of it is asked for. What LanceDB does use, the models below it, are imported as ever.
"""

import sys
import threading
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

_CLIENT = "lance_namespace_urllib3_client"


class PostponedPackage(ModuleType):
    """A package whose `__init__` runs when an attribute of it is first asked for.

    Its submodules can be imported before, each for itself: that is what the standard library's LazyLoader, for which
    a package's path is an attribute like others, does not do. Once loaded it is a module like any other; when loading
    fails, whoever asked gets the error.
    """

    def __getattr__(self, name: str) -> Any:
        with _loading:  # one thread loads, others wait; what the package asks of itself meanwhile is not there yet
            if type(self) is PostponedPackage and not self.__dict__.get("_begun"):
                self._begun = True
                try:
                    self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
                finally:
                    del self._begun
                self.__class__ = ModuleType  # type: ignore[assignment]
            if name in self.__dict__:
                return self.__dict__[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)


def postpone(name: str) -> None:
    """Let an installed package that nobody has imported yet be one that is loaded on use."""
    if name in sys.modules or (spec := find_spec(name)) is None:
        return
    package = module_from_spec(spec)
    package.__class__ = PostponedPackage
    sys.modules[name] = package


_loading = threading.RLock()
postpone(_CLIENT)

import lancedb  # noqa: E402

__all__ = ["lancedb"]
