"""LanceDB, imported without what it does not need here: half of the processor time of its import.

`import lancedb` takes 1.4 s, and more than half of it goes into code for Lance's namespace services, which
neither a folder nor an object store is reached by (benchmarks/startup.py measures whole commands against it):

- 0.6 s: the `__init__` of their REST client has pydantic make a validator for each of 366 generated methods. It waits
  until something of it is asked for.
- 0.1 s: the same for 119 generated models, which LanceDB does import. Pydantic makes their validators when they are
  used; that is its own `defer_build`.
- 0.1 s: on Python 3.11, the package `overrides` reads bytecode to check that LanceDB's methods override what they say.
  From 3.12 on LanceDB takes the `override` of `typing`, which checks nothing. So it does here.

Measured, medians of five interleaved rounds: `squadron search` takes 3.3 s of processor time instead of 4.4, an
unchanged `squadron ingest` 3.1 s instead of 4.3.

Nothing changes for a caller: the classes are the same, and errors are the same, only later.
"""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

from pydantic import BaseModel


class PostponedPackage(ModuleType):
    """A package whose `__init__` runs when an attribute of it is first asked for.

    Its submodules can be imported before, each for itself: that is what the standard library's LazyLoader, for which
    a package's path is an attribute like others, does not do. Once loaded it is a module like any other; when loading
    fails, whoever asked gets the error.
    """

    def __getattr__(self, name: str) -> Any:
        with _loading:  # one thread loads, others wait; what the package asks of itself meanwhile is not there yet
            if type(self) is PostponedPackage and "_begun" not in self.__dict__:
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


@contextmanager
def _checks_later() -> Iterator[None]:
    """Inside, classes are made without `overrides` looking at them, and pydantic's validators when they are used."""
    overrides: Any = import_module("overrides") if find_spec("overrides") else None
    if overrides:
        override, overrides.override = overrides.override, _trusted
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]
        if overrides:
            overrides.override = override


def _trusted(method: Any) -> Any:
    method.__override__ = True
    return method


_loading = threading.RLock()
postpone("lance_namespace_urllib3_client")
with _checks_later():
    import lancedb

__all__ = ["lancedb"]
