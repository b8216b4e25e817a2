"""What becomes of each setting that a checkpoint may state: it is used, it is harmless, or it is refused.

A setting in no table is refused by name: what it would change is not known here, and a model that is computed
without it would look right and be wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shortlist.spec.settings import Settings

Role = Literal["used", "harmless", "refused"]


@dataclass(frozen=True)
class Key:
    """One setting of a checkpoint.

    Parameters
    ----------
    role
        `used`: the model is computed by it. `harmless`: it changes nothing that is computed here. `refused`:
        it would, and it is not supported.
    why
        What it sets, why it changes nothing, or what it would change.
    neutral
        Values of a refused key that mean nothing. Null always does.
    default
        What holds where a file does not say.
    """

    role: Role
    why: str
    neutral: tuple[Any, ...] = ()
    default: Any = None


def used(why: str, default: Any = None) -> Key:
    """A key that the model is computed by."""
    return Key("used", why, default=default)


def harmless(why: str, names: str) -> dict[str, Key]:
    """Keys, with spaces between them, that change nothing here, all for one reason."""
    return dict.fromkeys(names.split(), Key("harmless", why))


def refused(why: str, *neutral: Any) -> Key:
    """A key that is refused unless it has one of the neutral values."""
    return Key("refused", why, neutral)


def find(table: Mapping[str, Key], name: str) -> Key | None:
    """What a table says of a key: by its name, or by the longest beginning, such as `quantize.*`, of many."""
    if name in table:
        return table[name]
    starts = [each for each in table if each.endswith("*") and name.startswith(each[:-1])]
    return table[max(starts, key=len)] if starts else None


def check_keys(settings: Settings, table: Mapping[str, Key]) -> None:
    """Refuse a checkpoint for the first setting that is refused, or in no table.

    Raises
    ------
    CheckpointError
        There is one.
    """
    for name, value in settings.items():
        key = find(table, name)
        if key is None:
            settings.fail(
                name,
                f"is {value!r:.40}, a setting that is not known here, so what it changes would be missing: "
                "update shortlist, or remove it if it changes nothing",
            )
        if key.role == "refused" and not any(_same(value, each) for each in key.neutral):
            settings.fail(name, f"is {value!r:.80}, which is not supported ({key.why})")


def _same(value: Any, neutral: Any) -> bool:
    # True and 1 are equal in Python, and not in a file.
    return isinstance(value, bool) == isinstance(neutral, bool) and value == neutral
