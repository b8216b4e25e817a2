"""Options as Python takes them: named, typed, in range. Their effect is tested where they act."""

import dataclasses
from typing import get_type_hints

import numpy as np
import pytest

from shortlist.engine import options as module
from shortlist.engine.constraints import Constraint
from shortlist.engine.options import GenerationOptions, Options, SamplingOptions
from shortlist.errors import UsageError


def test_the_typed_keywords_are_the_fields(monkeypatch):
    monkeypatch.setattr(module, "Constraint", Constraint, raising=False)  # there for type checkers alone
    fields = get_type_hints(GenerationOptions)
    assert get_type_hints(Options) == fields
    assert {field.name for field in dataclasses.fields(GenerationOptions)} == set(fields)


def test_defaults():
    assert vars(GenerationOptions()) == {
        "temperature": 0.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "constraint": None,
        "seed": None,
        "max_tokens": 256,
        "stop": (),
        "logprobs": None,
        "dense_head": False,
        "audit": None,
        "trace": False,
    }
    assert GenerationOptions().greedy
    assert not GenerationOptions(temperature=0.01).greedy
    assert GenerationOptions(temperature=0.0099).greedy
    assert GenerationOptions(temperature=1, top_p=0).greedy


@pytest.mark.parametrize("kind", [SamplingOptions, GenerationOptions])
def test_an_unknown_option_names_the_nearest(kind):
    with pytest.raises(UsageError, match=r"no option temprature \(did you mean temperature\?\)"):
        kind(temprature=1.0)


LIMITS = [
    ("temperature", [0, 0.009, 100], [-1, 100.1, float("nan")]),
    ("top_k", [0, 1, 10**6], [-1]),
    ("top_p", [0, 0.001, 1], [-0.1, 1.01, float("nan")]),
    ("min_p", [0, 1], [-0.01, 1.01, float("nan")]),
    ("repetition_penalty", [0.01, 100], [0, 100.1, float("nan")]),
    ("frequency_penalty", [-2, 2], [-2.1, 2.1, float("nan")]),
    ("presence_penalty", [-2, 2], [-2.1, 2.1, float("nan")]),
    ("seed", [None, 0, 2**64 - 1], [-1, 2**64]),
    ("max_tokens", [None, 1], [0]),
    ("logprobs", [None, 0, 100], [-1, 101]),
    ("audit", [None, 1], [0]),
    ("stop", ["", (), ("a", "b"), "a"][1:], ["", ("a", "")]),
    ("logit_bias", [{0: -100, 5: 100}, dict.fromkeys(range(1024), 1.0)], [{0: 100.1}, {1: float("nan")}]),
    ("logit_bias", [{}], [dict.fromkeys(range(1025), 1.0)]),
]


@pytest.mark.parametrize(("name", "good", "bad"), LIMITS)
def test_limits(name, good, bad):
    for value in good:
        assert getattr(GenerationOptions(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(UsageError):
            GenerationOptions(**{name: value})


@pytest.mark.parametrize("name", sorted(module.REALS))
def test_numbers_are_numbers(name):
    assert getattr(GenerationOptions(**{name: np.float32(1)}), name) == 1
    for value in ("0.7", None, True, [1]):
        with pytest.raises(UsageError, match=f"{name} must be a number, not"):
            GenerationOptions(**{name: value})


@pytest.mark.parametrize("name", sorted(module.INTEGERS))
def test_integers_are_integers(name):
    assert getattr(GenerationOptions(**{name: np.int64(1)}), name) == 1
    for value in (1.5, "1", True):
        with pytest.raises(UsageError, match=f"{name} must be an integer, not"):
            GenerationOptions(**{name: value})


def test_top_k_cannot_be_left_open():
    with pytest.raises(UsageError, match="top_k must be an integer"):
        GenerationOptions(top_k=None)


def test_one_stop_string_is_a_list_of_one():
    assert GenerationOptions(stop="end").stops == ("end",)
    assert GenerationOptions(stop=["a", "b"]).stops == ("a", "b")
    assert GenerationOptions().stops == ()
