"""Imports out of one file: looking for forty modules, one by one, takes longer than running them.

The bundle's entry point reads the archive, which holds what the bootstrap begins with; all else is found as usual. The
places of the modules come first, each counted from its end, as a dictionary; that and the modules are marshalled.
"""

import marshal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:
    from _frozen_importlib import ModuleSpec  # what `importlib.machinery` imports, which costs 2 ms


class Archive:
    """A finder and loader of the import system, for the modules of one package."""

    def __init__(self, content: bytes, places: "dict[str, int]", package: str, place: str) -> None:
        """What `package` has besides is looked for in the directory `place`."""
        self._content = memoryview(content)
        self._places = places
        self._package = package
        self._place = place

    def find_spec(self, name: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """None for what is not in here."""
        if name not in self._places:
            return None
        spec = ModuleSpec(name, self, origin=self._place, is_package=name == self._package)  # type: ignore[arg-type]
        if name == self._package:
            spec.submodule_search_locations = [self._place]
        return spec

    def create_module(self, spec: "ModuleSpec") -> None:
        """As Python makes them."""

    def exec_module(self, module: "ModuleType") -> None:
        """Run it; it is imported once, and with the last one goes the archive."""
        begin = len(self._content) - self._places.pop(module.__name__)
        code = marshal.loads(self._content[begin:])
        if not self._places:
            self._content = memoryview(b"")
        exec(code, module.__dict__)


def install(content: bytes, places: "dict[str, int]", package: str, place: str) -> None:
    """Look here before anywhere else."""
    sys.meta_path.insert(0, Archive(content, places, package, place))
