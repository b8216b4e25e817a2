"""Copies of gates are gates of their own, whichever way they are made."""

import copy
import io
import pickle

import pytest
import torch

from shortlist.torch.gates import GATES, WRAPPERS

X = torch.linspace(-1, 1, 6 * 16).view(6, 16).sin()
IDS = torch.tensor([3, 1, 4, 1, 5, 9])
EVERY = {
    **GATES,
    **{
        f"{name} of softmax": (lambda *sizes, w=w: w(GATES["softmax"](*sizes)))
        for name, w in WRAPPERS.items()
    },
}


def trained(name):
    """A gate after a step in which it counted and moved, and another in which it has counted so far."""
    torch.manual_seed(0)
    gate = EVERY[name](16, 4)
    gate.progress = 0.7
    for _ in range(2):
        gate(X, IDS)
        gate.after_step()
    gate(X, IDS)
    return gate


def routed(gate):
    torch.manual_seed(1)
    routing = gate.eval()(X, IDS)
    return routing.dense().detach()


def pickled(gate):
    return pickle.loads(pickle.dumps(gate))


def saved(gate):
    """By way of a file of tensors and a gate that was made without memory."""
    file = io.BytesIO()
    torch.save(gate.state_dict(), file)
    file.seek(0)
    with torch.device("meta"):
        other = EVERY[gate.made_as](16, 4)
    other.to_empty(device="cpu")
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    return other


@pytest.mark.parametrize("way", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("name", EVERY)
def test_a_copy_chooses_the_same_and_goes_its_own_way(name, way):
    gate = trained(name)
    gate.made_as = name
    other = way(gate)
    expected = routed(gate)
    assert torch.equal(routed(other), expected)
    before = {key: value.clone() for key, value in gate.state_dict().items()}
    other.train()
    for scale in (1.0, 5.0):
        other(scale * X.flip(0), IDS)
        other.after_step()
    for tensor in other.state_dict().values():
        tensor.zero_()
    assert all(torch.equal(value, before[key]) for key, value in gate.state_dict().items())
    assert torch.equal(routed(gate), expected)
