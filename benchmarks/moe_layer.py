"""The mixture-of-experts layer against the blocks of `transformers`, in float32.

For a Mixtral block (8 experts of 2048 neurons, 2 of a token) and a Qwen3-MoE block (64 experts of 512, 8 of
a token), both of width 1024, and for batches of the size of decoding and of training: milliseconds of the
forward pass or of the forward and backward pass, medians of runs that take turns. `transformers` runs with
each `experts_implementation` that can hold the batch; the ratio is against its best. Outputs and gradients
must agree to 1e-5 of the largest value.

The floor is what remains when everything but the matrices is taken away. Of batches of decoding: the bytes of
the chosen experts over the machine's read bandwidth. Of others: the bare products of matrices, in the faster
of the two orders in which they can be asked for; they take turns with the rest.

With --quantized: the same layers with experts of 8 and 4 bits against those in float32, forward.

    .venv/bin/python benchmarks/moe_layer.py [--blocks mixtral qwen3_moe] [--tokens 1 8 1024]
        [--backward | --quantized]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import MixtralConfig, Qwen3MoeConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from shortlist import _native
from shortlist.torch import MoE, adopt, quantize_experts

WIDTH = 1024
DECODE = 8  # tokens of the largest batch that counts as decoding
IMPLEMENTATIONS = ("grouped_mm", "eager", "batched_mm")
AGREEMENT = 1e-5

Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--blocks", nargs="+", default=list(BLOCKS), choices=list(BLOCKS))
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 8, 1024])
    passes = parser.add_mutually_exclusive_group()
    passes.add_argument("--backward", action="store_true", help="time the forward and backward pass")
    passes.add_argument("--quantized", action="store_true", help="time experts of 8 and 4 bits, forward")
    parser.add_argument("--implementations", nargs="+", default=list(IMPLEMENTATIONS))
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    gb_s = _native.read_bandwidth_gb_s()
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}, reads {gb_s:.1f} GB/s")
    if arguments.quantized:
        print("\n| block | tokens | float32 ms | 8 bits ms | 4 bits ms |")
        print("| --- | ---: | ---: | ---: | ---: |", flush=True)
        for name in arguments.blocks:
            compare_bits(name, BLOCKS[name](), arguments)
        return
    print("\n| block | tokens | pass | ours ms | transformers' best ms | ratio | floor ms | difference |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name in arguments.blocks:
        block = BLOCKS[name]()
        for tokens in arguments.tokens:
            compare(name, block, tokens, arguments, gb_s)


def mixtral() -> nn.Module:
    return drawn(MixtralSparseMoeBlock(MixtralConfig(hidden_size=WIDTH, intermediate_size=2048)))


def qwen3_moe() -> nn.Module:
    config = Qwen3MoeConfig(
        hidden_size=WIDTH,
        moe_intermediate_size=512,
        num_experts=64,
        num_experts_per_tok=8,
        norm_topk_prob=True,
    )
    return drawn(Qwen3MoeSparseMoeBlock(config))


BLOCKS = {"mixtral": mixtral, "qwen3_moe": qwen3_moe}


def drawn(block: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.02)
    return block


def compare(name: str, block: nn.Module, tokens: int, arguments: argparse.Namespace, gb_s: float) -> None:
    torch.manual_seed(tokens)
    x = torch.randn(1, tokens, WIDTH)
    moe = adopt(block)
    run = forward_backward if arguments.backward else forward
    calls: dict[str, Call] = {"ours": lambda: run(moe, x)}
    for implementation in arguments.implementations:
        if implementation != "batched_mm" or tokens <= DECODE:  # it copies an expert for every pair
            calls[implementation] = lambda i=implementation: run(with_implementation(block, i), x)
    difference = largest_difference(calls["ours"](), calls["grouped_mm"]())
    floors = {} if tokens <= DECODE else bare_products(moe, arguments.backward)
    milliseconds = take_turns(calls | floors, arguments.runs)
    best = min(calls.keys() - {"ours"}, key=milliseconds.__getitem__)
    ratio = milliseconds[best] / milliseconds["ours"]
    passes = {name.split(",")[0] for name in floors}
    lowest = sum(min(milliseconds[name] for name in floors if name.startswith(part)) for part in passes)
    if not floors:
        lowest = 1e3 * chosen_bytes(moe, arguments.backward) / (gb_s * 1e9)
    print(
        f"| {name} | {tokens} | {'forward, backward' if arguments.backward else 'forward'} "
        f"| {milliseconds['ours']:.2f} | {milliseconds[best]:.2f} ({best}) | {ratio:.2f} "
        f"| {lowest:.2f} | {difference:.0e} |",
        flush=True,
    )
    if difference > AGREEMENT:
        raise SystemExit(
            f"{name} with {tokens} tokens differs by {difference:.1e}, more than {AGREEMENT:.0e}"
        )


def compare_bits(name: str, block: nn.Module, arguments: argparse.Namespace) -> None:
    layers = {32: adopt(block)}
    for bits in (8, 4):
        layers[bits] = copy.deepcopy(layers[32])
        quantize_experts(layers[bits], bits)
    for tokens in arguments.tokens:
        x = torch.randn(1, tokens, WIDTH)
        calls: dict[str, Call] = {str(bits): lambda m=moe, x=x: forward(m, x) for bits, moe in layers.items()}
        milliseconds = take_turns(calls, arguments.runs)
        print(
            f"| {name} | {tokens} | " + " | ".join(f"{milliseconds[str(b)]:.2f}" for b in layers) + " |",
            flush=True,
        )


def with_implementation(block: nn.Module, implementation: str) -> nn.Module:
    block.get_submodule("experts").config._experts_implementation = implementation  # pyright: ignore
    return block


def forward(layer: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [layer(x)]


def forward_backward(layer: nn.Module, x: Tensor) -> list[Tensor]:
    layer.zero_grad()
    x = x.clone().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    return [y.detach(), *(t.grad for t in (x, *layer.parameters()) if t.grad is not None)]


def largest_difference(found: object, expected: object) -> float:
    """Of any tensor, as a share of its largest value. Gradients are compared in the order of their names."""
    assert isinstance(found, list)
    assert isinstance(expected, list)
    found, expected = ({tuple(t.shape): t for t in tensors} for tensors in (found, expected))
    return max(((found[s] - expected[s]).abs().max() / expected[s].abs().max()).item() for s in expected)


def take_turns(calls: dict[str, Call], runs: int) -> dict[str, float]:
    """Median milliseconds of every call, after one that does not count; what is hopeless runs twice."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(runs + 1):
        for name, call in calls.items():
            if turn < 2 or min(times[name]) < 3 * min(next(iter(times.values()))):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(seconds[1:]) for name, seconds in times.items()}


def chosen_bytes(moe: MoE, backward: bool) -> int:
    """Bytes of the chosen experts; the backward pass reads them again and writes as many of gradients."""
    assert moe.routing
    up, down = moe.experts.matrices()
    return int((moe.routing.load > 0).sum()) * (up[0].nbytes + down[0].nbytes) * (3 if backward else 1)


def bare_products(moe: MoE, backward: bool) -> dict[str, Call]:
    """The products of every expert with its tokens, by pass and order."""
    assert moe.routing
    load = moe.routing.load.tolist()
    experts = [e for e, count in enumerate(load) if count]
    calls: dict[str, Call] = {}

    def add(name: str, product: Callable[[int], Tensor]) -> None:
        calls[name] = torch.no_grad()(lambda: [None for e in experts if product(e) is None])

    for side, w in zip(("up", "down"), moe.experts.matrices(), strict=True):
        _, rows, columns = w.shape
        x = [torch.randn(count, columns) for count in load]
        dy = [torch.randn(count, rows) for count in load]
        dw = torch.zeros(rows, columns)
        add(f"{side} forward, rows", lambda e, w=w, x=x: x[e] @ w[e].t())
        add(f"{side} forward, columns", lambda e, w=w, x=x: w[e] @ x[e].t())
        if backward:
            add(f"{side} states, rows", lambda e, w=w, dy=dy: dy[e] @ w[e])
            add(f"{side} states, columns", lambda e, w=w, dy=dy: w[e].t() @ dy[e].t())
            add(f"{side} weights, rows", lambda e, x=x, dy=dy, dw=dw: torch.mm(dy[e].t(), x[e], out=dw))
    return calls


if __name__ == "__main__":
    main()
