"""Registries: what exists by name, each in a module of its own that is imported when it is looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TypeVar

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """A mapping of names to classes. Listing the names imports nothing.

    Parameters
    ----------
    package : str
        The package that the modules are in.
    homes : mapping of str to str
        For each name its `module:Class`.
    """

    def __init__(self, package: str, homes: Mapping[str, str]):
        self._package, self._homes = package, dict(homes)

    def __getitem__(self, name: str) -> T:
        module, _, kind = self._homes[name].partition(":")
        return getattr(import_module(f"{self._package}.{module}"), kind)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def by_class(self, name: str) -> T:
        """The class of this name, as `from package import Class` asks for it.

        Raises
        ------
        AttributeError
            There is none.
        """
        for key, home in self._homes.items():
            if home.partition(":")[2] == name:
                return self[key]
        raise AttributeError(f"module {self._package!r} has no attribute {name!r}")
