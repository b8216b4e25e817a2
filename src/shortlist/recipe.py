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
from typing import Annotated, Any, get_args

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from shortlist import documents, paths
from shortlist.errors import RecipeError
from shortlist.estimators import ESTIMATORS
from shortlist.selectors import SELECTORS
from shortlist.sites.base import Part, Way

VERSION = 2  # 1: the head alone
FILE_NAME = "recipe.json"
TENSOR_FILE = re.compile(r"[0-9a-f]{16}\.safetensors")  # others, such as a model's, are none of ours
LARGEST_JSON = 1 << 20  # bytes; a recipe holds a few numbers per part
PLACE = re.compile(r"head|layers\.\d+\.(qkv|o|gate_up|down)")


@dataclass(frozen=True, repr=False)
class Recipe:
    """What is shortlisted in a checkpoint.

    Attributes
    ----------
    model : str
        The checkpoint's name, for people.
    fingerprint : str
        The checkpoint's identity: a recipe is refused by any other.
    parts : mapping of str to Part
        By place: `head`, and the inputs of a layer's matrices, such as `layers.3.qkv`, `layers.3.o`,
        `layers.3.gate_up` and `layers.3.down`.
    measured : mapping
        What was measured on held-out text when the recipe was made: `head` for the head alone, `whole` for
        all that the recipe shortlists, and what else the one who made it wants to say.
    head, ffn : {"dense", "estimated", "exact"}, optional
        How the head and the feed-forward neurons are read; None leaves it to `auto`.
    """

    model: str
    fingerprint: str
    parts: Mapping[str, Part]
    measured: Mapping[str, Any] = field(default_factory=dict)
    head: Way | None = None
    ffn: Way | None = None

    def __repr__(self) -> str:
        ways = [f"{what} {way}" for what, way in (("head", self.head), ("ffn", self.ffn)) if way]
        return f"<Recipe of {self.model}: {', '.join([*ways, f'{len(self.parts)} parts'])}>"

    @property
    def layer_parts(self) -> dict[str, Part]:
        """The parts that are not the head's."""
        return {place: part for place, part in self.parts.items() if place != "head"}

    def summary(self) -> dict[str, Any]:
        """All but the tensors, as JSON holds it."""
        return {
            "version": VERSION,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "head": self.head,
            "ffn": self.ffn,
            "parts": {place: _describe(part) for place, part in self.parts.items()},
            "measured": dict(self.measured),
        }


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
        f"{place}.{name}": np.ascontiguousarray(array)
        for place, part in recipe.parts.items()
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
            {place: _part(path, place, entry, arrays) for place, entry in document.parts.items()},
            document.measured,
            head=_way(path, "head", document.head),
            ffn=_way(path, "ffn", document.ffn),
        )
    except RecipeError:
        raise
    except (TypeError, ValueError, safetensors.SafetensorError) as error:  # a method's own checks among them
        raise _damaged(path, str(error)) from None


def _describe(part: Part) -> dict[str, Any]:
    return {
        "estimator": {"name": part.estimator.name, **asdict(part.estimator)},  # pyright: ignore[reportArgumentType]
        "selector": {"name": part.selector.name, **asdict(part.selector)},  # pyright: ignore[reportArgumentType]
        "units": part.units,
        "width": part.width,
    }


class _TensorFile(msgspec.Struct):
    file: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class _PartDocument(msgspec.Struct, forbid_unknown_fields=True):
    estimator: dict[str, documents.Option]
    selector: dict[str, documents.Option]
    units: documents.Count
    width: documents.Count


class _Figures(msgspec.Struct):
    """What the choice of a head divides by, of all that was measured."""

    seconds_per_token: dict[str, documents.Seconds] = {}


class _Document(msgspec.Struct):
    model: str
    fingerprint: str
    parts: dict[str, _PartDocument]
    measured: dict[str, dict[str, Any] | list[dict[str, Any]]]  # a list: the points of a frontier
    tensors: _TensorFile
    head: Any = None
    ffn: Any = None

    def __post_init__(self) -> None:
        for name, figures in self.measured.items():
            if isinstance(figures, list) != (name == "frontier"):
                raise ValueError(f"{name} of measured is a {type(figures).__name__}")
        for name in ("head", "whole"):
            documents.check(self.measured.get(name, {}), _Figures)


def _part(path: Path, place: str, entry: _PartDocument, arrays: dict[str, np.ndarray]) -> Part:
    if not PLACE.fullmatch(place):
        raise RecipeError(
            f"{path} names the unknown place {place} (known: head, and qkv, o, gate_up, down of layers, "
            "such as layers.3.qkv): update shortlist"
        )
    prefix = f"{place}."
    return Part(
        estimator=_method(path, "estimator", ESTIMATORS, entry.estimator),
        selector=_method(path, "selector", SELECTORS, entry.selector),
        units=entry.units,
        width=entry.width,
        state={name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)},
    )


def _way(path: Path, what: str, way: Any) -> Any:
    if way is not None and way not in get_args(Way):
        raise RecipeError(
            f"{path} reads the {what} in the unknown way {way} (known: {', '.join(get_args(Way))}): "
            "update shortlist"
        )
    return way


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
