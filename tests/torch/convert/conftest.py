"""A tiny dense model, and a text for it."""

import copy

import pytest
import torch
from builders import tiny_model

from shortlist.torch.convert import Text, cluster, read_me


@pytest.fixture(scope="session")
def tiny_dense():
    return tiny_model("llama", intermediate_size=192)


@pytest.fixture
def dense(tiny_dense):
    return copy.deepcopy(tiny_dense)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Routers of tiny models learn fast."""
    monkeypatch.setattr(cluster, "ROUTER_STEPS", 40)
    monkeypatch.setattr(read_me, "ROUTER_STEPS", 40)


@pytest.fixture
def text():
    """Two domains: the lower and the upper half of the vocabulary."""
    draw = torch.Generator().manual_seed(0)
    low, high = (torch.randint(a, b, (8, 32), generator=draw) for a, b in ((0, 120), (120, 256)))
    return Text(torch.cat([low, high]), torch.tensor([0] * 8 + [1] * 8))


@pytest.fixture
def one_domain(text):
    return Text(text.ids, torch.zeros(16, dtype=torch.int64))
