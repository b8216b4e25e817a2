"""What an estimator is: it scores every unit of a table cheaply, and says how far off it may be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from array_api_compat import array_namespace, device

from shortlist.errors import UsageError

Array = Any  # a NumPy array, a torch tensor, or any other array of the Python array API standard
State = dict[str, Array]
Progress = Callable[[float], None]  # called with the share of the work that is done, 0 to 1

CHUNK_VALUES = 1 << 22  # float32 values of a table that are unpacked at once: 16 MiB


Knowledge = Literal["confidence", "bound"]
"""What scale times margins is: one standard deviation of the error, or what the error never exceeds."""


@dataclass(frozen=True)
class Scores:
    """Scores of all units for a query, and how far the exact values may be from them.

    The upper end of unit i is `values[i] + scale * margins[i]`. What that means an estimator says by `gives`.

    Attributes
    ----------
    values : array [..., units]
        Estimated value of each unit.
    margins : array [units] or [..., units]
        A confidence: what the error of each unit is like, such as the norm of its residual. A bound: what the
        part of the unit that was not read can add; infinite where nothing is known. Left out: 0, which says
        that nothing is known of the errors.
    scale : array [...] or float
        A confidence: the query's own residual. A bound: 1. A selector multiplies it by its sigma.
    """

    values: Array
    margins: Array = None
    scale: Array = 1.0

    def __post_init__(self) -> None:
        if self.margins is None:
            xp = array_namespace(self.values)
            nothing = xp.zeros(self.values.shape[-1:], dtype=self.values.dtype, device=device(self.values))
            object.__setattr__(self, "margins", nothing)

    def reach(self, times: float = 1.0) -> Array:
        """How far above and below its value a unit may be: `times` the scale times the margins."""
        scale = times * self.scale
        return (scale[..., None] if getattr(scale, "ndim", 0) else scale) * self.margins

    def upper(self, times: float = 1.0) -> Array:
        """The upper end of each unit [..., units]."""
        return self.values + self.reach(times)


@runtime_checkable
class PackedTable(Protocol):
    """Rows that are stored packed and are unpacked a few at a time."""

    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    def unpack(self, indices: Any) -> Any: ...


class Estimator(ABC):
    """Scores all units of a table; a frozen dataclass whose fields are the options of the method.

    `fit` prepares once, `score` runs many times. The state between them is a dict of plain named
    arrays, which a recipe stores as it is.
    """

    name: ClassVar[str]
    gives: ClassVar[Knowledge | None] = None  # what its margins are; None: it knows nothing of its errors
    from_table: ClassVar[bool] = False  # the table alone makes the state, so a recipe may leave it out

    @abstractmethod
    def fit(self, table: Array | PackedTable, queries: Array, progress: Progress | None = None) -> State:
        """Prepare the state that scores `table`.

        Parameters
        ----------
        table : array [units, width] or PackedTable
            The rows that might be computed.
        queries : array [samples, width]
            Examples of what will be multiplied with them. The state's arrays are of its namespace.
        progress : callable, optional
            Called with the share of the work that is done.
        """

    @abstractmethod
    def score(self, state: State, query: Array) -> Scores:
        """Score all units for `query` [..., width]; leading axes are independent queries."""

    @abstractmethod
    def layout(self, units: int, width: int) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name, dtype and shape of every array of the state for a table [units, width]."""

    @abstractmethod
    def bytes_per_query(self, units: int, width: int) -> int:
        """Bytes of the state that one query reads."""

    def check(self, state: Mapping[str, Array], units: int, width: int) -> None:
        """Raise `ValueError` where `state` is not one of this estimator for a table [units, width]."""
        layout = self.layout(units, width)
        if set(state) != set(layout):
            raise ValueError(f"{self.name} has the arrays {sorted(layout)}, not {sorted(state)}")
        for name, (dtype, shape) in layout.items():
            found = state[name]
            if tuple(found.shape) != shape or str(found.dtype).removeprefix("torch.") != dtype:
                raise ValueError(
                    f"array {name} of {self.name} is {found.dtype} {tuple(found.shape)}, not {dtype} {shape}"
                )


def table_shape(table: Array | PackedTable) -> tuple[int, int]:
    """Units and width of a table; both must be there."""
    shape = (table.rows, table.cols) if isinstance(table, PackedTable) else tuple(table.shape)
    if len(shape) != 2 or 0 in shape:
        raise UsageError(f"a table has units and width, not the shape {shape}")
    return shape


def table_chunks(table: Array | PackedTable, like: Array, multiple: int = 1) -> Iterator[tuple[slice, Array]]:
    """Walk through a table of any size, a few megabytes at a time.

    Yields the slice of the rows, which starts at a `multiple`, and the rows in float32, as arrays of the
    namespace of `like`.
    """
    units, width = table_shape(table)
    for rows in row_slices(units, width, multiple):
        yield rows, table_rows(table, np.arange(rows.start, rows.stop), like)


def row_slices(units: int, width: int, multiple: int = 1) -> Iterator[slice]:
    """Slices of a few megabytes of float32 rows that cover all units; each starts at a `multiple`."""
    step = max(1, CHUNK_VALUES // (width * multiple)) * multiple
    for start in range(0, units, step):
        yield slice(start, min(start + step, units))


def table_rows(table: Array | PackedTable, indices: np.ndarray, like: Array) -> Array:
    """Some rows of a table, float32 [count, width], as an array of the namespace of `like`."""
    xp = array_namespace(like)
    if isinstance(table, PackedTable):
        rows = table.unpack(indices.astype(np.int32))
    else:
        rows = table[xp.asarray(indices, device=device(like)), :]
    return xp.asarray(rows, dtype=xp.float32, device=device(like))


def some_rows(units: int, count: int, run: int = 1) -> np.ndarray:
    """Indices of about `count` rows of a table, in evenly spaced runs of `run` neighbours; all, where few."""
    if units <= count:
        return np.arange(units)
    starts = np.linspace(0, units // run, max(1, count // run), endpoint=False).astype(np.int64) * run
    return (starts[:, None] + np.arange(run)).reshape(-1)


def check_queries(queries: Array, width: int) -> None:
    """Raise `UsageError` where `queries` are not examples [samples, width] for a table of this width."""
    if queries.ndim != 2 or queries.shape[1] != width or queries.shape[0] == 0:
        raise UsageError(f"queries for a table of width {width} cannot have the shape {tuple(queries.shape)}")
