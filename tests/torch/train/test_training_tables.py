"""Tables of configuration files: what is right becomes a dataclass, what is wrong is named."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.errors import UsageError
from shortlist.torch.train.tables import REST, check_range, from_table, to_table


@dataclass(frozen=True)
class Inner:
    kind: str = "plain"
    options: Mapping[str, Any] = field(default_factory=dict, metadata=REST)


@dataclass(frozen=True)
class Outer:
    names: tuple[str, ...]
    count: int | tuple[int, ...] = 3
    rate: float = 0.5
    mode: Literal["fast", "slow"] = "fast"
    share: float | None = None
    weights: Mapping[str, float] | None = None
    inner: Inner | None = None
    flag: bool = False

    def __post_init__(self):
        check_range("rate", self.rate, 0, 1)


def test_defaults_and_tables_within():
    read = from_table(Outer, {"names": ["a"], "count": [1, 2], "rate": 1, "inner": {"kind": "x", "k": 2}}, "")
    assert read == Outer(("a",), (1, 2), 1.0, inner=Inner("x", {"k": 2}))
    assert isinstance(read.rate, float)


outers = st.builds(
    Outer,
    names=st.lists(st.text()).map(tuple),
    count=st.integers() | st.lists(st.integers()).map(tuple),
    rate=st.floats(0, 1),
    mode=st.sampled_from(["fast", "slow"]),
    share=st.none() | st.floats(allow_nan=False),
    weights=st.none() | st.dictionaries(st.text(), st.floats(allow_nan=False)),
    inner=st.none()
    | st.builds(Inner, kind=st.text(), options=st.dictionaries(st.text("abc"), st.integers())),
    flag=st.booleans(),
)


@given(outers)
def test_what_is_written_is_read_back(outer):
    assert from_table(Outer, to_table(outer), "") == outer


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "f: names is missing: a list of texts is needed there"),
        ({"names": "a"}, "f: names must be a list of texts, not 'a'"),
        ({"names": [1]}, "f: names must be a list of texts, not [1]"),
        ({"names": [], "count": "3"}, "f: count must be a whole number or a list of whole numbers, not '3'"),
        (
            {"names": [], "count": True},
            "f: count must be a whole number or a list of whole numbers, not True",
        ),
        ({"names": [], "count": 1.5}, "not 1.5"),
        ({"names": [], "rate": "1"}, "f: rate must be a number, not '1'"),
        ({"names": [], "rate": 2}, "f: rate must be from 0 to 1, not 2.0"),
        ({"names": [], "mode": "fats"}, "f: mode must be 'fast' or 'slow', not 'fats'"),
        ({"names": [], "flag": 1}, "f: flag must be true or false, not 1"),
        ({"names": [], "weights": {"a": "b"}}, "f: weights must be a table, not"),
        ({"names": [], "inner": 3}, "f: inner must be a table, not 3"),
        ({"names": [], "inner": {"kind": 3}}, "f: inner.kind must be text, not 3"),
        ({"names": [], "conut": 3}, "f: conut is not a key that is known: did you mean count?"),
        ({"names": [], "zzz": 3}, "f: zzz is not a key that is known: known are count, flag, inner"),
    ],
)
def test_what_is_wrong_is_named(table, message):
    with pytest.raises(UsageError) as raised:
        from_table(Outer, table, "f: ")
    assert message in str(raised.value)
