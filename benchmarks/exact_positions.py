"""Counts where `--exact` differs from the dense head over real positions of real text; there must be none.

    python benchmarks/exact_positions.py smollm2-135m gemma-3-270m --text FILE --positions 20000

Every position compares the greedy token; every tenth also draws a token with each of a few sampling settings.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from rich.progress import track

from shortlist.checkpoints import open_checkpoint, resolve
from shortlist.engine.adjust import Adjustment
from shortlist.engine.exact_sampling import Asked, draw_together
from shortlist.engine.options import SamplingOptions
from shortlist.engine.sampling import sample
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.sites.head import Head, exact_head

WINDOW = 512  # positions per text window
SETTINGS = {
    "temperature 1": {"temperature": 1.0},
    "temperature 0.7, top-k 40": {"temperature": 0.7, "top_k": 40},
    "temperature 0.8, top-p 0.95": {"temperature": 0.8, "top_p": 0.95},
    "temperature 1.5, min-p 0.05, penalty 1.1": {
        "temperature": 1.5,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
    },
}


def main() -> None:
    """Print, for each model, how many positions were compared, how many differ, and what was read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--positions", type=int, default=20_000)
    arguments = parser.parse_args()
    differences = sum(
        compare(name, arguments.text.read_text(), arguments.positions) for name in arguments.models
    )
    raise SystemExit(1 if differences else 0)


def compare(name: str, text: str, positions: int) -> int:
    """One model; returns the number of differences."""
    with open_checkpoint(resolve(name)) as checkpoint:
        decoder, tokenizer = Decoder(checkpoint), Tokenizer.from_checkpoint(checkpoint)
    tokens = np.array(tokenizer.encode(text)[: positions + WINDOW], np.int32)
    dense, exact = Head(decoder.head_rows), exact_head(decoder.head_rows)
    shares: dict[str, list[float]] = {setting: [] for setting in ("greedy", *SETTINGS)}
    differing, full, done = Counter(), Counter(), 0
    for start in track(range(0, positions, WINDOW), description=name):
        window = tokens[start : start + WINDOW]
        for offset, hidden in enumerate(decoder.forward(window, decoder.new_cache(WINDOW))):
            token, read = exact.argmax(hidden)
            differing["greedy"] += token != dense.argmax(hidden)[0]
            shares["greedy"].append(read.rows / exact.rows.rows)
            done += 1
            if done % 10 == 0:
                logits = dense.logits(hidden)[0]
                for setting, values in SETTINGS.items():
                    options = SamplingOptions(seed=done, **values)
                    adjust = Adjustment(options, window[: offset + 1].tolist(), exact.rows.rows)
                    [drawn] = draw_together(exact, hidden[None], [Asked(options, offset, adjust)])
                    differing[setting] += drawn.token != sample(adjust(logits), options, offset)
                    full[setting] += drawn.full
                    shares[setting].append(drawn.read.rows / exact.rows.rows)
    for setting, read in shares.items():
        print(
            f"{name}, {setting}: {differing[setting]} differences in {len(read):,} positions; rows read: "
            f"{np.median(read):.2%} median, {np.mean(read):.2%} mean; all rows in {full[setting]} positions"
        )
    return differing.total()


if __name__ == "__main__":
    main()
