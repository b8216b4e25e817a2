"""How much faster decoding is when only the neurons that fire are read, over the share that fires.

Models of a 1B shape with random 8-bit weights, gated ReLU and a planted share of active neurons
(`shortlist.measure.synthetic`), decoded with all rows (dense), with the up and down rows of firing neurons
(exact), and with gates from 4-bit copies too (estimated). In every round each takes its turn on the same
random tokens, dense head included; medians of the rounds, ratios of the medians. Needs 5 GB of memory and
takes about five minutes on 2 cores, which should have nothing else to do. Prints Markdown and exits with 1
if the best at 8 % is below 1.8 times dense.

    python benchmarks/relu_skipping.py [--threads N] [--rounds N]
"""

import argparse
import gc
import statistics
import sys
import time

import numpy as np

from shortlist import _native, checkpoints
from shortlist.measure.synthetic import SHAPES, synthetic
from shortlist.model.decoder import Decoder
from shortlist.sites.head import Head

MODES = ("dense", "exact", "estimated")
PROMPT, STEPS = 32, 48
LEAST = 1.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    shares = {name: shape.active for name, shape in SHAPES.items() if shape.active is not None}
    best = 0.0
    print(
        "| planted | measured | exact: max. difference | dense | exact | estimated | of the read bandwidth |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, planted in shares.items():
        decoders = {}
        for mode in MODES:
            with checkpoints.open_checkpoint(synthetic(name)) as checkpoint:
                decoders[mode] = Decoder(checkpoint, ffn=mode, threads=arguments.threads)
        speeds, bandwidth = measure(decoders, arguments.rounds)
        measured, difference = active_share(decoders)
        ratio = {mode: speeds[mode] / speeds["dense"] for mode in MODES}
        dense = decoders["dense"]
        used = speeds["dense"] * (dense.layer_bytes + dense.head_rows.nbytes) / 1e9 / bandwidth
        cells = [f"{planted:.0%}", f"{measured:.1%}", f"{difference:.1e}", f"{speeds['dense']:.1f} tokens/s"]
        cells += [f"{speeds[mode]:.1f} ({ratio[mode]:.2f}x)" for mode in MODES[1:]]
        print("|", " | ".join([*cells, f"dense {used:.0%} of {bandwidth:.1f} GB/s"]), "|", flush=True)
        if planted == min(shares.values()):
            best = max(ratio.values())
        del decoders, dense
        gc.collect()
    print(f"\n{_native.isa()}, {_native.threads()} threads; ratios are to dense decoding of the same model.")
    sys.exit(best < LEAST)


def measure(decoders: dict[str, Decoder], rounds: int) -> tuple[dict[str, float], float]:
    """Tokens per second of each, and the read bandwidth in GB/s: medians of the rounds."""
    speeds = {mode: [] for mode in decoders}
    bandwidths = []
    heads = {mode: Head(decoder.head_rows) for mode, decoder in decoders.items()}
    for seed in range(rounds):
        tokens = random_tokens(seed)
        bandwidths.append(_native.read_bandwidth_gb_s(256, 2))
        for mode, decoder in decoders.items():
            cache = decoder.new_cache(PROMPT + STEPS)
            decoder.forward(tokens[:PROMPT], cache)
            start = time.perf_counter()
            for token in np.split(tokens[PROMPT:], STEPS):
                heads[mode].argmax(decoder.forward(token, cache)[0])
            speeds[mode].append(STEPS / (time.perf_counter() - start))
    return {mode: statistics.median(each) for mode, each in speeds.items()}, statistics.median(bandwidths)


def active_share(decoders: dict[str, Decoder]) -> tuple[float, float]:
    """Share of the neurons that fire, and how far exact hidden states are from dense ones, of the largest."""
    tokens = random_tokens(99)
    exact, before = decoders["exact"], decoders["exact"].neurons_read
    hidden = {
        mode: decoders[mode].forward(tokens, decoders[mode].new_cache(len(tokens))) for mode in MODES[:2]
    }
    all_neurons = len(tokens) * exact.config.layers * exact.config.ffn_width
    difference = np.abs(hidden["exact"] - hidden["dense"]).max() / np.abs(hidden["dense"]).max()
    return (exact.neurons_read - before) / all_neurons, float(difference)


def random_tokens(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(300, 40000, PROMPT + STEPS).astype(np.int32)


if __name__ == "__main__":
    main()
