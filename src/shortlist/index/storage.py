"""The file of an index: one safetensors file, with a description in JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from shortlist import documents, paths
from shortlist.errors import ShortlistError
from shortlist.estimators import ESTIMATORS, Estimator, State
from shortlist.index.row_formats import ROW_FORMATS, Arrays

VERSION = 1
KEY = "shortlist.index"  # key of the description in the safetensors metadata
STATE = "state."  # prefix of the names of the estimator's arrays
Metric = Literal["inner_product", "cosine"]
METRICS = get_args(Metric)


class IndexFileError(ShortlistError):
    """An index cannot be written, or a file holds no index that this program reads."""


@dataclass(frozen=True)
class Contents:
    """The contents of a file.

    Attributes
    ----------
    width, count : int
        Shape of the table of vectors.
    metric, rows : str
        Parameters of `Index`.
    vectors : dict of arrays
        The vectors in the format `rows`.
    fitted : int
        Number of vectors, from the first on, that the estimator's `state` covers; 0 without an estimator.
    """

    width: int
    count: int
    metric: str
    rows: str
    vectors: Arrays
    fitted: int = 0
    estimator: Estimator | None = None
    state: State | None = None


def write(contents: Contents, path: Path) -> None:
    """Write a file; an existing one is replaced only when the new one is complete on disk.

    Raises
    ------
    IndexFileError
        The file cannot be written.
    """
    document: dict[str, Any] = {
        "version": VERSION,
        "width": contents.width,
        "count": contents.count,
        "metric": contents.metric,
        "rows": contents.rows,
        "fitted": contents.fitted,
    }
    if contents.estimator is not None:
        options = asdict(contents.estimator)  # pyright: ignore[reportArgumentType]
        document["estimator"] = {"name": contents.estimator.name, **options}
    arrays = dict(contents.vectors)
    for name, array in (contents.state or {}).items():
        arrays[STATE + name] = np.ascontiguousarray(array)
    try:
        with paths.partial_file(path) as partial:
            safetensors.numpy.save_file(arrays, partial, {KEY: json.dumps(document)})
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IndexFileError(f"the index cannot be written to {path}: {reason}") from None


def read(path: Path) -> Contents:
    """Read a file that `write` wrote. No array is larger than the file.

    Raises
    ------
    IndexFileError
        The file is missing, no index, damaged, from a newer version, or names an unknown method.
    """
    if not path.is_file():
        raise IndexFileError(f"there is no index at {path}: name a file that Index.save wrote")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            document = _document(path, file.metadata())
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise IndexFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except (safetensors.SafetensorError, TypeError) as error:  # TypeError: a dtype unknown to NumPy
        raise _damaged(path, str(error)) from None
    try:
        return _contents(path, document, arrays)
    except (TypeError, ValueError) as error:  # also from a method's own checks
        raise _damaged(path, str(error)) from None


class _Document(msgspec.Struct):
    version: documents.Count
    width: documents.Size
    count: documents.Count
    metric: Metric
    rows: str
    fitted: documents.Count
    estimator: dict[str, documents.Option] | None = None

    def __post_init__(self) -> None:
        if self.rows not in ROW_FORMATS:
            raise ValueError(f"rows {self.rows} are not known")
        if self.fitted > self.count or (self.fitted > 0) != (self.estimator is not None):
            raise ValueError("its sizes contradict each other")


def _document(path: Path, metadata: Mapping[str, str] | None) -> _Document:
    if KEY not in (metadata or {}):
        raise IndexFileError(f"{path} is no index of shortlist: name a file that Index.save wrote")
    assert metadata is not None
    try:
        version = documents.read(metadata[KEY], documents.Version).version
        if version > VERSION:
            raise IndexFileError(
                f"{path} is of version {version} and this program reads {VERSION}: update shortlist"
            )
        return documents.read(metadata[KEY], _Document)
    except documents.DocumentError as error:
        raise _damaged(path, str(error)) from None


def _contents(path: Path, document: _Document, arrays: Arrays) -> Contents:
    width, count, metric, rows = document.width, document.count, document.metric, document.rows
    state = {name.removeprefix(STATE): arrays.pop(name) for name in list(arrays) if name.startswith(STATE)}
    layout = ROW_FORMATS[rows].layout(count, width)
    found = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
    if found != layout:
        raise ValueError(f"it holds the arrays {found}, not {layout}")
    if not all(np.isfinite(a).all() for a in (*arrays.values(), *state.values()) if a.dtype.kind == "f"):
        raise ValueError("some of its numbers are not finite")
    if document.estimator is None:
        return Contents(width, count, metric, rows, arrays)
    options = dict(document.estimator)
    name = str(options.pop("name", None))
    if name not in ESTIMATORS:
        known = ", ".join(sorted(ESTIMATORS))
        raise IndexFileError(f"{path} names the unknown estimator {name} (known: {known}): update shortlist")
    estimator = documents.method(options, ESTIMATORS[name])
    estimator.check(state, document.fitted, width)
    return Contents(width, count, metric, rows, arrays, document.fitted, estimator, state)


def _damaged(path: Path, reason: str) -> IndexFileError:
    return IndexFileError(f"{path} is damaged: {reason:.300}; save the index again")
