"""PCA-RAG (s1-32): passages found through 64 principal axes of their vectors, and 100 of them computed again.

A passage is 12 tokens, and its vector the mean of their rows in SmolLM2-135M's embedding. Queries are the
last passages of the text, which are not stored. Exits with 1 where a criterion is missed.

    .venv/bin/python lab/systems/s1_32_pca_rag.py wikitext2-valid.txt [--passages 20000] [--threads 2]
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import shortlist
from shortlist.estimators import LowRank
from shortlist.index import Index

LENGTH, QUERIES = 12, 400
RANK, RESCORED, K = 64, 100, 10
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--model", default="smollm2-135m", help="a model that was fetched, or a GGUF file")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    vectors = passages(arguments.model, arguments.text, arguments.passages + QUERIES, arguments.threads)
    table, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    index = Index(table.shape[1], metric="cosine")
    index.add(table)
    index.fit(estimator=LowRank(rank=RANK, metric="identity"))
    keep = RESCORED / len(index)

    exact = index.search(queries, K, keep=1).ids
    found = index.search(queries, K, keep).ids
    recall = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, exact, strict=True)])
    share = index.estimate_bytes / table.nbytes
    batch = speedup(index, [queries], keep)
    single = speedup(index, list(queries[:50]), keep)

    print(f"{len(index)} passages of width {index.width}, {RESCORED} computed, {arguments.threads} threads\n")
    print("| | measured | at least or at most |\n| --- | --- | --- |")
    criteria = [
        (f"recall@{K}", recall, recall >= 0.95, 0.95),
        ("share of bytes", share, share <= 0.12, 0.12),
        ("speed of single queries, times the exact search", single, single >= 4, 4),
        (f"speed of {QUERIES} queries at once, times the exact search", batch, batch >= 4, 4),
    ]
    for name, value, met, limit in criteria:
        print(f"| {name} | {value:.4g}{'' if met else ' (missed)'} | {limit} |")
    sys.exit(not all(met for _, _, met, _ in criteria))


def passages(model: str, text: Path, count: int, threads: int) -> np.ndarray:
    """Vectors float32 [count or fewer, width]; the rows of the head are those of the embedding."""
    with shortlist.load(model, head="dense", threads=threads) as loaded:
        tokens = loaded.tokenizer.encode(text.read_text(encoding="utf-8"), add_special=False)
        count = min(count, len(tokens) // LENGTH)
        rows = loaded.decoder.head_rows.unpack(np.array(tokens[: count * LENGTH], dtype=np.int32))
    return rows.reshape(count, LENGTH, -1).mean(axis=1)


def speedup(index: Index, batches: list[np.ndarray], keep: float) -> float:
    """Time of the exact search over that of the shortlisted one, the best of several rounds in turns."""
    seconds = {1.0: float("inf"), keep: float("inf")}
    for _ in range(ROUNDS):
        for share in seconds:
            start = time.perf_counter()
            for batch in batches:
                index.search(batch, K, share)
            seconds[share] = min(seconds[share], time.perf_counter() - start)
    return seconds[1.0] / seconds[keep]


if __name__ == "__main__":
    main()
