"""The one registry mechanism: a name, a package whose files register themselves, and entry points.

To add a thing is to add a file: every module of ``package`` and of the packages in it (leading underscores
excepted) is imported when all names are asked for, and its decorators register what it defines. One that is asked for
by its name is looked for in the file of that name first (``alpha-crown`` in ``alpha_crown.py``), so that who needs one
does not wait for the imports of all. Third parties register through an entry point group of the registry's name.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Generic, TypeVar, cast

from robcert.errors import UsageError, did_you_mean

T = TypeVar("T")
S = TypeVar("S")


class Registry(Generic[T]):
    """Names to things of one kind.

    Args:
        kind: the singular, as an error message says it ("attack").
        package: the package whose modules register themselves; also the entry point group.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, T] = {}
        self._loaded = False

    def register(self, *names: str) -> Callable[[S], S]:
        """Decorator that registers an object under each of ``names``; a second object of one name is an error.

        What it decorates keeps its own type, which is that of the registry or narrower.
        """

        def keep(item: S) -> S:
            for name in names:
                if name in self._entries and self._entries[name] is not item:
                    raise ValueError(f"two {self.kind}s are called {name!r}")
                self._entries[name] = cast(T, item)
            return item

        return keep

    def get(self, name: str) -> T:
        """Return the thing called ``name``.

        Raises:
            UsageError: nothing has that name; the closest known name is suggested.
        """
        if name not in self._entries:
            self._load_file(name.replace("-", "_"))
        if name not in self._entries:
            self._load()
        if name not in self._entries:
            raise UsageError(f"unknown {self.kind} {name!r}", did_you_mean(name, self._entries))
        return self._entries[name]

    def names(self) -> list[str]:
        """Return all names, sorted."""
        self._load()
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        if name not in self._entries:
            self._load()
        return name in self._entries

    def items(self) -> Iterator[tuple[str, T]]:
        """Names and things, sorted by name."""
        self._load()
        yield from sorted(self._entries.items())

    def _load_file(self, stem: str) -> None:
        """Import the file of a name, where there is one."""
        if not stem.isidentifier() or stem.startswith("_"):
            return
        module = f"{self.package}.{stem}"
        if importlib.util.find_spec(module) is not None:
            importlib.import_module(module)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for info in pkgutil.walk_packages(package.__path__, f"{self.package}."):
            if not info.name.rpartition(".")[2].startswith("_"):
                importlib.import_module(info.name)
        for point in entry_points(group=self.package):
            self.register(point.name)(point.load())


def written(package: str, decorator: str) -> dict[str, str]:
    """Return the names that a package registers, with the first line of each docstring; nothing is imported.

    For a help or a table that must not load what it lists. Of what entry points register only the name is known.

    Args:
        package: of a registry.
        decorator: the function that registers, whose first argument is a name as it is written ("gap").
    """
    found = {point.name: "" for point in entry_points(group=package)}
    top, *inner = package.split(".")  # only the spec of the top package is found without an import
    spec = importlib.util.find_spec(top)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(place, *inner).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for call in getattr(node, "decorator_list", ()):
                    if isinstance(call, ast.Call) and getattr(call.func, "id", "") == decorator:
                        told = ast.get_docstring(cast("ast.ClassDef", node)) or ""
                        found[ast.literal_eval(call.args[0])] = " ".join(told.partition("\n\n")[0].split())
    return dict(sorted(found.items()))


def written_names(package: str, decorator: str) -> list[str]:
    """Return the names of `written`, sorted."""
    return list(written(package, decorator))
