"""Settings read with checks: ranges at their ends, null and absent, and what messages name."""

from pathlib import Path
from typing import Any

import pytest

from shortlist.errors import CheckpointError
from shortlist.spec.settings import Settings


def settings(**values: Any) -> Settings:
    return Settings(Path("config.json"), values)


def test_a_range_holds_its_ends():
    for value in (1, 5.0):
        assert settings(key=value).between("key", 1, 5) == value
    for value in (0.999, 5.001):
        with pytest.raises(CheckpointError, match=r"config.json: key is .*, but must be from 1 to 5"):
            settings(key=value).between("key", 1, 5)
    assert settings().between("key", 1, 5, 3) == 3


def test_flags_are_true_or_false():
    assert settings(key=True).flag("key")
    assert not settings().flag("key")
    assert settings(key=None).flag("key", True)
    with pytest.raises(CheckpointError, match="key is 0, but must be true or false"):
        settings(key=0).flag("key")


def test_defaults_are_for_what_is_absent_not_for_null():
    merged = settings(null=None, stated=1).over({"null": 5, "stated": 5, "absent": 5})
    assert "null" not in merged
    assert (merged.get("stated"), merged.get("absent")) == (1, 5)


def test_what_is_stated_comes_without_the_prefix():
    read = Settings(Path("m.gguf"), {"llama.a": 1, "llama.b": None, "other.c": 2}, "llama.")
    assert dict(read.items()) == {"a": 1}
    assert read.updated({"b": 3}).get("b") == 3
    with pytest.raises(CheckpointError, match=r"m.gguf: llama.a is wrong"):
        read.updated({"b": 3}).fail("a", "is wrong")


def test_an_object_within_is_named():
    inner = settings(outer={"middle": {"key": 1}}).part("outer").part("middle")
    with pytest.raises(CheckpointError, match=r"config.json: outer.middle.key is wrong"):
        inner.updated({"more": 1}).fail("key", "is wrong")
    assert len(settings().part("outer")) == 0
