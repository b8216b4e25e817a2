"""LeanVec (s1-28): head rows found through a quarter of their width, fitted to the queries, against PCA.

The rows of Gemma-3-270M's head are the table and hidden states of a text the queries: fitted on the text's
first half, searched with the second. Exits with 1 where a criterion is missed.

    .venv/bin/python lab/systems/s1_28_leanvec.py TEXT [--model gemma-3-270m] [--threads 2]
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np

import shortlist
from shortlist.engine.model import Model
from shortlist.estimators import LowRank
from shortlist.index import Index
from shortlist.measure.teacher_forced import windows

FIT_TOKENS, QUERIES = 2048, 256
K, KEEP = 10, 0.01
METHODS: dict[str, Literal["queries", "identity"]] = {
    "LeanVec (fitted to rows and queries)": "queries",
    "PCA (fitted to rows)": "identity",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="gemma-3-270m", help="a model that was fetched, or a GGUF file")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    text = arguments.text.read_text(encoding="utf-8")
    with shortlist.load(arguments.model, head="dense", threads=arguments.threads) as model:
        examples = hidden_states(model, text[: len(text) // 2], FIT_TOKENS)
        queries = hidden_states(model, text[len(text) // 2 :], QUERIES)
        rows = model.decoder.head_rows
        index = Index(rows.cols)
        index.add(rows.unpack(np.arange(rows.rows, dtype=np.int32)))
    start = time.perf_counter()
    exact = index.search(queries, K, keep=1).ids
    exact_seconds = time.perf_counter() - start

    print(f"{len(index)} rows, {index.width // 4} of {index.width} dimensions, {arguments.threads} threads\n")
    print(f"| | recall@{K} within the top {KEEP:.0%} | times the exact search's queries/s | fit s |")
    print("| --- | --- | --- | --- |")
    recalls = []
    for name, metric in METHODS.items():
        start = time.perf_counter()
        index.fit(examples, LowRank(rank=index.width // 4, metric=metric))
        fit_seconds = time.perf_counter() - start
        start = time.perf_counter()
        found = index.search(queries, K, KEEP).ids
        seconds = time.perf_counter() - start
        recalls.append(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, exact, strict=True)]))
        print(
            f"| {name} | {recalls[-1]:.4f} | {exact_seconds / seconds:.1f} | {fit_seconds:.1f} |", flush=True
        )
    reached = recalls[0] >= 0.98 and recalls[0] >= recalls[1]
    print(f"\nat least 0.98, and at least PCA's: {'met' if reached else 'missed'}")
    sys.exit(not reached)


def hidden_states(model: Model, text: str, count: int) -> np.ndarray:
    tokens = model.tokenizer.encode(text, add_special=False)[:count]
    return np.concatenate(
        [states for states, _ in windows(model.decoder, tokens, model.tokenizer.encode(""))]
    )


if __name__ == "__main__":
    main()
