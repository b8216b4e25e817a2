"""Mixtures of experts against PyTorch: which are chosen, with which weights, and what they add up to."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shortlist import _native

F = torch.nn.functional


def rows(values: np.ndarray, format: str = "", *, tiled: bool = False) -> _native.Rows:
    data = np.ascontiguousarray(values, np.float32).view(np.uint8).reshape(-1)
    return _native.Rows.pack(data, "F32", *values.shape, format, tiled=tiled)


class Layer:
    """A random mixture, native, and the same in PyTorch: a naive loop over tokens and experts."""

    def __init__(
        self,
        experts=5,
        per_token=2,
        width=24,
        hidden=20,
        shared=0,
        normalize=False,
        format="",
        seed=0,
        router=None,
    ):
        rng = np.random.default_rng(seed)
        self.width, self.per_token, self.normalize, self.format = width, per_token, normalize, format
        if router is None:
            router = rng.standard_normal((experts, width))
        self.router = torch.from_numpy(router.astype(np.float32))
        self.blocks = [self._block(rng, hidden) for _ in range(experts)]
        self.shared = self._block(rng, shared) if shared else None
        self.shared_gate = rng.standard_normal((1, width)).astype(np.float32) if shared else None
        self.native = _native.Mixture(
            router=rows(router),
            experts=self.blocks,
            per_token=per_token,
            normalize=normalize,
            activation="silu",
            shared=self.shared,
            shared_gate=None if self.shared_gate is None else rows(self.shared_gate),
        )

    def _block(self, rng, hidden):
        shapes = ((hidden, self.width), (hidden, self.width), (self.width, hidden))
        return tuple(rows(0.3 * rng.standard_normal(s), self.format, tiled=bool(self.format)) for s in shapes)

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As `transformers` does it."""
        weights = F.softmax(F.linear(x, self.router), dim=-1, dtype=torch.float)
        weights, chosen = torch.topk(weights, self.per_token, dim=-1)
        return weights / weights.sum(-1, keepdim=True) if self.normalize else weights, chosen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros_like(x)
        for t, (weights, chosen) in enumerate(zip(*self.route(x), strict=True)):
            for weight, expert in zip(weights, chosen, strict=True):
                out[t] += weight * run(self.blocks[expert], x[t])
            if self.shared is not None and self.shared_gate is not None:
                out[t] += torch.sigmoid(x[t] @ torch.from_numpy(self.shared_gate[0])) * run(self.shared, x[t])
        return out


def run(block: tuple[_native.Rows, ...], x: torch.Tensor) -> torch.Tensor:
    gate, up, down = map(values_matrix, block)
    return down @ (F.silu(gate @ x) * (up @ x))


def values_matrix(packed: _native.Rows) -> torch.Tensor:
    """A tiled matrix gives its values as products with unit vectors, whose rounding is exact."""
    return torch.from_numpy(packed.matmul(np.eye(packed.cols, dtype=np.float32))).T


def inputs(tokens: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((tokens, width)).astype(np.float32))


def assert_close(actual: np.ndarray, expected: torch.Tensor, tolerance: float) -> None:
    error = np.abs(actual - expected.numpy()).max()
    assert error <= tolerance * max(float(expected.abs().max()), 1e-9), f"off by {error}"


CASES = {
    "as usual": {},
    "one expert": {"experts": 1, "per_token": 1},
    "all experts": {"experts": 4, "per_token": 4},
    "normalized": {"normalize": True},
    "a shared expert": {"shared": 44},
    "many experts, few chosen": {"experts": 70, "per_token": 1, "hidden": 8},
    "awkward sizes": {"experts": 3, "width": 37, "hidden": 77, "shared": 101, "normalize": True},
    "larger than a share": {"width": 130, "hidden": 200},
}


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 2, 5, 40])
@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_pytorch_does(case, tokens, threads):
    layer = Layer(**CASES[case])
    x = inputs(tokens, layer.width)
    before = _native.threads()
    _native.set_threads(threads)
    try:
        actual = layer.native.forward(x.numpy())
    finally:
        _native.set_threads(before)
    assert_close(actual, layer.forward(x), 2e-5)
    chosen = np.bincount(layer.route(x)[1].flatten(), minlength=len(layer.blocks))
    assert np.array_equal(layer.native.loads, chosen)


@pytest.mark.parametrize("format", ["q8", "q4"])
@pytest.mark.parametrize("case", ["as usual", "awkward sizes", "larger than a share"])
def test_quantized_experts_at_once_and_one_by_one(case, format):
    layer = Layer(**CASES[case], format=format)
    x = inputs(33, layer.width)
    at_once = layer.native.forward(x.numpy())
    assert_close(at_once, layer.forward(x), 0.02)  # inputs are rounded to 8 bits
    one_by_one = np.concatenate([layer.native.forward(x[t : t + 1].numpy()) for t in range(len(x))])
    assert np.array_equal(at_once, one_by_one)


def test_all_tokens_may_choose_one_expert():
    router = np.zeros((6, 24))
    router[4, 0] = 5.0
    layer = Layer(experts=6, per_token=1, router=router)
    x = inputs(50, 24).abs()
    assert_close(layer.native.forward(x.numpy()), layer.forward(x), 2e-5)
    assert layer.native.loads.tolist() == [0, 0, 0, 0, 50, 0]


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_of_equal_experts_those_are_chosen_that_pytorch_chooses(experts, per_token, levels, normalize, seed):
    rng = np.random.default_rng(seed)
    router = np.zeros((experts, 32))
    router[:, 0] = rng.integers(0, levels, experts)  # products with a unit vector are exact: ties are ties
    per_token = min(per_token, experts)
    layer = Layer(experts, per_token, 32, 4, normalize=normalize, router=router)
    x = torch.zeros(3, 32)
    x[:, 0] = torch.tensor([1.0, -1.0, 0.0])
    weights, chosen = layer.route(x)
    expected = torch.zeros(3, experts).scatter_(1, chosen, weights)
    actual = layer.native.route(x.numpy())
    assert np.array_equal(actual > 0, expected.numpy() > 0)
    assert np.abs(actual - expected.numpy()).max() < 1e-6


def test_values_that_are_not_numbers_reach_the_output():
    layer = Layer()
    x = inputs(3, 24).numpy()
    x[1, 5] = np.nan
    out = layer.native.forward(x)
    assert np.isnan(out[1]).all()
    assert np.isfinite(out[[0, 2]]).all()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("tokens", [1, 7])
def test_prices_change_the_choice_and_not_the_weights(normalize, tokens):
    layer = Layer(normalize=normalize)
    price = np.array([0.0, 3.0, 0.5, 0.0, 6.0], np.float32)
    native = _native.Mixture(
        router=rows(layer.router.numpy()),
        experts=layer.blocks,
        per_token=2,
        normalize=normalize,
        activation="silu",
        router_price=price,
    )
    x = inputs(tokens, layer.width)
    logits = x @ layer.router.T
    chosen = (logits - torch.from_numpy(price)).topk(2).indices
    weights = logits.softmax(-1).gather(-1, chosen)
    weights = weights / weights.sum(-1, keepdim=True) if normalize else weights
    expected = torch.zeros(tokens, 5).scatter(1, chosen, weights)
    np.testing.assert_allclose(native.route(x.numpy()), expected.numpy(), atol=1e-6)
    assert tokens == 1 or (chosen.sort().values != logits.topk(2).indices.sort().values).any()


def test_no_tokens():
    layer = Layer()
    assert layer.native.forward(np.zeros((0, 24), np.float32)).shape == (0, 24)
    assert layer.native.route(np.zeros((0, 24), np.float32)).shape == (0, 5)


def test_bytes_are_those_of_the_rows():
    layer = Layer(experts=3, width=64, hidden=96, shared=32, format="q8")
    assert layer.shared is not None
    every = [*layer.blocks, layer.shared]
    routers = 4 * (3 * 64) + 4 * 64  # and the gate of the shared expert
    assert layer.native.nbytes == routers + sum(m.nbytes for block in every for m in block)


def test_sizes_that_do_not_fit_are_refused():
    blocks = Layer().blocks
    router = rows(np.zeros((5, 24)))
    options = {"router": router, "experts": blocks, "per_token": 2, "normalize": False, "activation": "silu"}
    for change, message in (
        ({"experts": []}, "needs experts"),
        ({"experts": blocks[:4]}, "router"),
        ({"experts": [*blocks[:4], Layer(hidden=8).blocks[0]]}, "experts"),
        ({"experts": [*blocks[:4], (None, *blocks[4][1:])]}, "experts"),
        ({"per_token": 6}, "cannot choose 6 of 5"),
        ({"per_token": -1}, "cannot choose -1 of 5"),
        ({"router_hidden": rows(np.zeros((8, 24)))}, "router"),
        ({"router_bias": np.zeros(4, np.float32)}, "router_bias"),
        ({"router_price": np.zeros(4, np.float32)}, "router_price"),
        ({"router": rows(np.zeros((5, 8))), "router_hidden": rows(np.zeros((8, 23)))}, "router_hidden"),
        ({"shared": Layer(width=16).blocks[0]}, "shared"),
        ({"shared_gate": rows(np.zeros((2, 24)))}, "shared_gate"),
        ({"activation": "tanh"}, "unknown activation"),
    ):
        with pytest.raises(ValueError, match=message):
            _native.Mixture(**{**options, **change})
