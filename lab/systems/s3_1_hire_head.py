"""HiRE's head (s3-1): the estimated head of Gemma-3-270M against the dense one, quality and speed in one run.

Measures the head as the runtime reads it (low rank and confidence), and beside it HiRE's own selector, a
fixed number of over-fetched rows, through the readable Python code. The recipe is the one in the cache,
fitted first where there is none. Exits with 1 where a criterion is missed.

    .venv/bin/python lab/systems/s3_1_hire_head.py [TEXT] [--tokens 4096] [--model gemma-3-270m]
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

import shortlist
from shortlist.engine.model import Model
from shortlist.fit import fit
from shortlist.measure.quality import compare
from shortlist.measure.teacher_forced import windows
from shortlist.selectors import TopK
from shortlist.sites.base import Part
from shortlist.sites.head import Head

TEXT = Path(__file__).parents[2] / "benchmarks" / "data" / "shakespeare.txt"
FETCHES = (128, 512, 2048)
FETCH_POSITIONS = 256
PROMPT = "Write a long story about a lighthouse keeper."
DECODED, ROUNDS = 128, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path, nargs="?", default=TEXT, help="its second half is used")
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--model", default="gemma-3-270m")
    arguments = parser.parse_args()

    shortlist.pull(arguments.model, progress=True)
    fit(arguments.model, again=False)
    text = arguments.text.read_text(encoding="utf-8")
    with shortlist.load(arguments.model, head="estimated") as model:
        tokens = model.tokenizer.encode(text[len(text) // 2 :], add_special=False)[: arguments.tokens]
        assert model.recipe is not None
        part = model.recipe.alternatives.get("head") or model.recipe.sites["head"]
        assert part is not None
        print(f"{arguments.model}: {part.estimator}, {part.selector}")
        reached = measure(model, tokens)
        print_over_fetched(model, part, tokens[:FETCH_POSITIONS])
    sys.exit(not reached)


def measure(model: Model, tokens: Sequence[int]) -> bool:
    """Print each criterion beside what was measured; True where all are met."""
    dense = Head(model.decoder.head_rows)
    batches = windows(model.decoder, tokens, model.tokenizer.encode(""))
    quality = compare(batches, dense, model.head, model.decoder.layer_bytes)
    cost = quality.shortlisted
    head_bytes = cost.bytes_per_token - model.decoder.layer_bytes
    speeds = decode_speeds(model, {"dense": dense, "estimated": model.head})

    print(
        f"{quality.tokens} positions, {head_bytes / dense.rows.nbytes:.1%} of the head's bytes read, "
        "estimate included\n"
    )
    print("| | measured | at least or at most |\n| --- | --- | --- |")
    criteria = [
        ("recall", cost.recall, cost.recall >= 0.98, "0.98"),
        ("share of row bytes", cost.rows_share, cost.rows_share <= 0.15, "0.15"),
        ("perplexity change", cost.perplexity_change, abs(cost.perplexity_change) <= 0.005, "0.005"),
        ("greedy tokens equal", cost.agreement, cost.agreement >= 0.995, "0.995"),
        (
            "decode speed",
            speeds["estimated"] / speeds["dense"],
            speeds["estimated"] >= 1.3 * speeds["dense"],
            "1.3",
        ),
    ]
    for name, value, met, limit in criteria:
        print(f"| {name} | {value:.4f}{'' if met else ' (missed)'} | {limit} |")
    return all(met for _, _, met, _ in criteria)


def decode_speeds(model: Model, heads: Mapping[str, Head]) -> dict[str, float]:
    """Median greedy tokens/s with each head, in turns."""
    prompt = np.array(model.tokenizer.encode(PROMPT), dtype=np.int32)
    seconds: dict[str, list[float]] = {name: [] for name in heads}
    for _ in range(ROUNDS):
        for name, head in heads.items():
            cache = model.decoder.new_cache(len(prompt) + DECODED)
            hidden = model.decoder.forward(prompt, cache)[-1]
            start = time.perf_counter()
            for _ in range(DECODED):
                token, _ = head.argmax(hidden)
                hidden = model.decoder.forward(np.array([token], dtype=np.int32), cache)[-1]
            seconds[name].append(time.perf_counter() - start)
    return {name: DECODED / median(times) for name, times in seconds.items()}


def print_over_fetched(model: Model, part: Part, tokens: Sequence[int]) -> None:
    """Share of positions where the dense winner is the best of a fixed number of rows that are read."""
    rows = model.decoder.head_rows
    dense = Head(rows)
    found: dict[int, list[bool]] = {fetch: [] for fetch in FETCHES}
    for hidden, _ in windows(model.decoder, tokens, model.tokenizer.encode("")):
        for query in hidden:
            winner, _ = dense.argmax(query)
            estimate = part.estimator.score(part.state, query)
            for fetch in FETCHES:
                chosen = TopK(1, fetch).select(
                    estimate, lambda i, q=query: rows.matvec_rows(q, i.astype(np.int32))
                )
                found[fetch].append(winner in chosen.indices)
    print("\n| rows fetched | share of rows | recall |\n| --- | --- | --- |")
    for fetch in FETCHES:
        print(f"| {fetch} | {fetch / rows.rows:.3%} | {np.mean(found[fetch]):.4f} |")


if __name__ == "__main__":
    main()
