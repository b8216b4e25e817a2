"""Recipes: what is shortlisted where in one checkpoint, the tensors it needs, and what it measured.

A recipe is a folder: `recipe.json`, and beside it the estimators' arrays in a safetensors file that the JSON
names with its size and hash. So the rename of the JSON switches both at once, and a recipe is either whole or
refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from shortlist import documents, paths
from shortlist.errors import RecipeError, UsageError
from shortlist.estimators import ESTIMATORS
from shortlist.selectors import SELECTORS
from shortlist.sites.base import MATRICES, Part, Way, site_class

VERSION = 3  # 1: the head alone; 2: head and neurons named by a word
FILE_NAME = "recipe.json"
TENSOR_FILE = re.compile(r"[0-9a-f]{16}\.safetensors")  # others, such as a model's, are none of ours
LARGEST_JSON = 1 << 20  # bytes; a recipe holds a few numbers per part
SPARE = "alternative."  # what names of the alternatives' tensors begin with


@dataclass(frozen=True, repr=False)
class Recipe:
    """What is shortlisted in a checkpoint.

    Attributes
    ----------
    model : str
        The checkpoint's name, for people.
    fingerprint : str
        The checkpoint's identity: a recipe is refused by any other.
    sites : mapping of str to Part or None
        What is done at each site that the recipe is about (`sites.base`); None reads all units.
    measured : mapping
        What was measured on held-out text when the recipe was made: `head` for the head alone, `whole` for
        all that the recipe shortlists, and what else the one who made it wants to say.
    alternatives : mapping of str to Part
        Parts that were fitted and not chosen: `--head estimated` takes that of the head.

    Raises
    ------
    UsageError
        There is no such site, it cannot run its part, or two sites exclude each other.
    """

    model: str
    fingerprint: str
    sites: Mapping[str, Part | None]
    measured: Mapping[str, Any] = field(default_factory=dict)
    alternatives: Mapping[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, part in (*self.sites.items(), *self.alternatives.items()):
            kind = site_class(name)
            if part and (reason := kind.refusal(part.estimator, part.selector)):
                raise UsageError(f"{name} cannot be shortlisted so: {reason}")
        for name in self.shortlisted:
            layer, _, kind = name.rpartition(".")
            if kind == "neurons" and {f"{layer}.gate_up", f"{layer}.down"} & self.shortlisted.keys():
                raise UsageError(f"{name} and the channels of gate_up or down exclude each other: choose one")

    def __repr__(self) -> str:
        return f"<Recipe of {self.model}: {describe(self.sites)}>"

    @property
    def shortlisted(self) -> dict[str, Part]:
        """The sites where not all units are read."""
        return {name: part for name, part in self.sites.items() if part is not None}

    @property
    def layers(self) -> dict[str, Part | None]:
        """The sites that are not the head."""
        return {name: part for name, part in self.sites.items() if name != "head"}

    @property
    def head(self) -> Way | None:
        """How the head is read; None where the recipe does not say."""
        return way(self.sites["head"]) if "head" in self.sites else None

    def summary(self) -> dict[str, Any]:
        """All but the tensors, as JSON holds it."""
        return {
            "version": VERSION,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "sites": {name: part and _describe(part) for name, part in self.sites.items()},
            "alternatives": {name: _describe(part) for name, part in self.alternatives.items()},
            "measured": dict(self.measured),
        }


def way(part: Part | None) -> Way:
    """How a site is read."""
    return "dense" if part is None else part.way


def describe(sites: Mapping[str, Part | None]) -> str:
    """A few words such as `estimated head, exact neurons, 12 sites by channel`; `dense` where all is read."""
    ways: dict[str, dict[Way, None]] = {}
    for name, part in sites.items():
        if part is not None:
            ways.setdefault(name.rpartition(".")[2], {})[part.way] = None
    words = [f"{' and '.join(ways[kind])} {kind}" for kind in ("head", "neurons", "experts") if kind in ways]
    channels = sum(part is not None and name.rpartition(".")[2] in MATRICES for name, part in sites.items())
    if channels:
        words.append(f"{channels} site{'s' * (channels > 1)} by channel")
    return ", ".join(words) or "dense"


def default_folder(fingerprint: str) -> Path:
    """Where the recipe of a checkpoint is kept when no other place is named."""
    return paths.cache_folder() / "recipes" / fingerprint


def save(recipe: Recipe, folder: Path) -> None:
    """Write a recipe, replacing the one that is there only when all of it is on disk.

    Raises
    ------
    RecipeError
        The folder cannot be written.
    """
    arrays = {
        f"{prefix}{site}.{name}": np.ascontiguousarray(array)
        for prefix, parts in (("", recipe.shortlisted), (SPARE, recipe.alternatives))
        for site, part in parts.items()
        for name, array in part.state.items()
    }
    tensors = safetensors.numpy.save(arrays)
    digest = hashlib.sha256(tensors).hexdigest()
    file = {"file": f"{digest[:16]}.safetensors", "bytes": len(tensors), "sha256": digest}
    text = json.dumps({**recipe.summary(), "tensors": file}, indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with paths.locked(folder, alone=True):  # two at once would remove each other's tensors
            paths.remove_leftovers(folder, TENSOR_FILE.pattern)
            for name, data in ((file["file"], tensors), (FILE_NAME, text.encode())):
                with paths.partial_file(folder / name) as partial:
                    partial.write_bytes(data)
            for old in folder.iterdir():
                if TENSOR_FILE.fullmatch(old.name) and old.name != file["file"]:
                    old.unlink(missing_ok=True)
    except OSError as error:
        raise RecipeError(f"the recipe cannot be written to {folder}: {error.strerror or error}") from None


def load(folder: Path, fingerprint: str) -> Recipe:
    """Read a recipe of the checkpoint with this fingerprint.

    Raises
    ------
    RecipeError
        It is missing, damaged, of another checkpoint, from a newer version, or names an unknown method.
    """
    with paths.locked(folder, alone=False):
        return _load(folder, fingerprint)


def _load(folder: Path, fingerprint: str) -> Recipe:
    path = folder / FILE_NAME
    data = _read(path)
    try:
        version = documents.read(data, documents.Version).version
        if version < VERSION:
            name = documents.read(data, _Named).model
            raise RecipeError(
                f"{path} is of version {version}, which is no longer read: make a new one with "
                f"shortlist fit {name}, or shortlist tune {name}"
            )
        if version > VERSION:
            raise RecipeError(
                f"{path} is of version {version} and this program reads {VERSION}: update shortlist"
            )
        document = documents.read(data, _Document)
        if document.fingerprint != fingerprint:
            raise RecipeError(
                f"{path} belongs to another checkpoint ({document.model}): "
                "name the recipe of this one, or none"
            )
        arrays = _read_tensors(folder, document.tensors)
        return Recipe(
            document.model,
            fingerprint,
            {
                name: entry and _part(path, entry, arrays, f"{name}.")
                for name, entry in document.sites.items()
            },
            document.measured,
            {
                name: _part(path, entry, arrays, f"{SPARE}{name}.")
                for name, entry in document.alternatives.items()
            },
        )
    except RecipeError:
        raise
    except UsageError as error:
        raise RecipeError(f"{path} cannot run: {error}; {_REMEDY}") from None
    except (TypeError, ValueError, safetensors.SafetensorError) as error:  # a method's own checks among them
        raise _damaged(path, str(error)) from None


def _describe(part: Part) -> dict[str, Any]:
    return {
        "estimator": {"name": part.estimator.name, **asdict(part.estimator)},  # pyright: ignore[reportArgumentType]
        "selector": {"name": part.selector.name, **asdict(part.selector)},  # pyright: ignore[reportArgumentType]
        "units": part.units,
        "width": part.width,
        "way": part.way,
    }


class _Named(msgspec.Struct):
    model: str


class _TensorFile(msgspec.Struct):
    file: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class _PartDocument(msgspec.Struct, forbid_unknown_fields=True):
    estimator: dict[str, documents.Option]
    selector: dict[str, documents.Option]
    units: documents.Count
    width: documents.Count
    way: Way  # follows from the others: for people


class _Figures(msgspec.Struct):
    """What the choice of a head divides by, of all that was measured."""

    seconds_per_token: dict[str, documents.Seconds] = {}


class _Document(msgspec.Struct):
    model: str
    fingerprint: str
    sites: dict[str, _PartDocument | None]
    alternatives: dict[str, _PartDocument]
    measured: dict[str, dict[str, Any] | list[dict[str, Any]]]  # a list: the points of a frontier
    tensors: _TensorFile

    def __post_init__(self) -> None:
        for name, figures in self.measured.items():
            if isinstance(figures, list) != (name == "frontier"):
                raise ValueError(f"{name} of measured is a {type(figures).__name__}")
        for name in ("head", "whole"):
            documents.check(self.measured.get(name, {}), _Figures)


def _part(path: Path, entry: _PartDocument, arrays: dict[str, np.ndarray], prefix: str) -> Part:
    part = Part(
        estimator=_method(path, "estimator", ESTIMATORS, entry.estimator),
        selector=_method(path, "selector", SELECTORS, entry.selector),
        units=entry.units,
        width=entry.width,
        state={name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)},
    )
    if part.way != entry.way:
        raise ValueError(f"{prefix.rstrip('.')} is {part.way}, not {entry.way}")
    return part


def _method(path: Path, kind: str, registry: Mapping[str, Any], options: dict[str, Any]) -> Any:
    """One of the registry's methods with the options that the recipe holds."""
    name = options.pop("name", None)
    if name not in registry:
        raise RecipeError(
            f"{path} names the unknown {kind} {name} (known: {', '.join(sorted(registry))}): update shortlist"
        )
    return documents.method(options, registry[name])


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_JSON + 1)
    except FileNotFoundError:
        raise RecipeError(
            f"there is no recipe at {path.parent}: name a folder that holds {FILE_NAME}"
        ) from None
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST_JSON:
        raise _damaged(path, f"it is larger than {LARGEST_JSON} bytes")
    return data


def _read_tensors(folder: Path, entry: _TensorFile) -> dict[str, np.ndarray]:
    path = folder / entry.file
    if Path(entry.file).name != entry.file:
        raise ValueError(f"{entry.file} is not a file name")
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            raise _damaged(path, f"it has {size} bytes instead of {entry.bytes}")
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}; {_REMEDY}") from None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise _damaged(path, "its contents have changed")
    return safetensors.numpy.load(data)


_REMEDY = "delete its folder and make another with shortlist fit or tune"


def _damaged(path: Path, reason: str) -> RecipeError:
    return RecipeError(f"{path} is damaged: {reason}; {_REMEDY}")
