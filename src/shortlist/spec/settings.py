"""The settings that a checkpoint states about its model, read with checks that name the file and the key."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from shortlist.errors import CheckpointError

_MISSING = object()


def _no_number(value: Any) -> bool:
    # `int` has no bound in JSON, and one beyond 1e308 is not a float.
    return (type(value) is not float and (type(value) is not int or abs(value) > 1e300)) or math.isnan(value)


class Settings:
    """Values by key, for one file.

    Parameters
    ----------
    path
        The file, for messages.
    values
        What it says. A value of None counts as absent, which is how `config.json` uses null.
    prefix
        Stands before every key in the file.
    inside
        The object of the file that the keys are in, for messages.
    """

    def __init__(self, path: Path, values: Mapping[str, Any], prefix: str = "", inside: str = ""):
        self.path = path
        self._values = dict(values)
        self._prefix = prefix
        self._inside = inside

    def fail(self, key: str, why: str) -> NoReturn:
        """Refuse the checkpoint because of one key."""
        raise CheckpointError(f"{self.path}: {self._inside}{self._prefix}{key} {why}")

    def get(self, key: str, default: Any = _MISSING) -> Any:
        """The value as it is; missing without a default is an error."""
        value = self._values.get(self._prefix + key)
        if value is not None:
            return value
        if default is _MISSING:
            self.fail(key, "is missing: fetch the model again, or convert it again")
        return default

    def integer(self, key: str, most: int, default: Any = _MISSING, least: int = 1) -> int:
        """A whole number from `least` to `most`."""
        value = self.get(key, default)
        if type(value) is not int or not least <= value <= most:
            self.fail(key, f"is {value!r:.80}, but must be one whole number from {least} to {most}")
        return value

    def integers(self, key: str, most: int, count: int) -> tuple[int, ...]:
        """`count` whole numbers from 1 to `most`: a list of them, or one that stands for all."""
        value = self.get(key)
        values = value if isinstance(value, list) else [self.integer(key, most)] * count
        if len(values) != count or any(type(v) is not int or not 1 <= v <= most for v in values):
            self.fail(key, f"must be one whole number from 1 to {most}, or {count} of them")
        return tuple(values)

    def numbers(self, key: str, count: int, default: Any = _MISSING) -> tuple[float, ...]:
        """A list of `count` numbers, which may be infinite."""
        values = self.get(key, default)
        if not isinstance(values, list) or len(values) != count or any(map(_no_number, values)):
            self.fail(key, f"must be {count} numbers")
        return tuple(map(float, values))

    def positive(self, key: str, default: Any = _MISSING) -> float:
        """A finite number above zero."""
        value = self.get(key, default)
        # `int` has no bound in JSON, and one beyond 1e308 is not a float.
        if type(value) not in (int, float) or not 0 < value < 1e300 or not math.isfinite(value):
            self.fail(key, f"is {value!r:.80}, but must be a positive number")
        return float(value)

    def between(self, key: str, least: float, most: float, default: Any = _MISSING) -> float:
        """A number from `least` to `most`."""
        value = self.positive(key, default)
        if not least <= value <= most:
            self.fail(key, f"is {value!r:.80}, but must be from {least} to {most}")
        return value

    def one_of(self, key: str, choices: Mapping[str, Any] | tuple[str, ...], default: Any = _MISSING) -> str:
        """One of the supported words."""
        value = self.get(key, default)
        if not isinstance(value, str) or value not in choices:
            self.fail(key, f"is {value!r:.80}, which is not supported; supported are {', '.join(choices)}")
        return value

    def part(self, key: str) -> "Settings":
        """The settings nested under `key`; none when it is absent."""
        value = self.get(key, {})
        if not isinstance(value, dict):
            self.fail(key, f"is {value!r:.80}, but must be an object")
        return Settings(self.path, value, inside=f"{self._inside}{key}.")

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            self.fail(key, f"is {value!r:.80}, but must be true or false")
        return value

    def items(self) -> Iterator[tuple[str, Any]]:
        """Keys, without the prefix, and values of what is stated."""
        for key, value in self._values.items():
            if value is not None and key.startswith(self._prefix):
                yield key.removeprefix(self._prefix), value

    def updated(self, more: Mapping[str, Any]) -> "Settings":
        """The same, with other values for some keys."""
        return self._with(self._values | {self._prefix + k: v for k, v in more.items()})

    def over(self, defaults: Mapping[str, Any]) -> "Settings":
        """The same, with defaults where the file has no such key; null in the file stays null."""
        return self._with({self._prefix + k: v for k, v in defaults.items()} | self._values)

    def _with(self, values: Mapping[str, Any]) -> "Settings":
        return Settings(self.path, values, self._prefix, self._inside)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: str) -> bool:
        return self._values.get(self._prefix + key) is not None


MAX_WIDTH = 1 << 20
MAX_LAYERS = 1 << 10
MAX_HEADS = 1 << 12
MAX_HEAD_DIM = 1 << 12
MAX_FFN_WIDTH = 1 << 24
MAX_CONTEXT = 1 << 30
"""Limits far above any real model, so that nothing absurd is computed before shapes are compared."""
