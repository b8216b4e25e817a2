"""PCA-RAG (s1-32): passages as hidden states, searched through 64 principal components and re-scored.

Twenty thousand short passages of the text, each the mean of the model's final hidden states over it, of
length 1; every hundredth is a query and no part of the index. Search is NumPy on both sides, one query at a
time. Exits with 1 where recall@10 is below 0.95, the index takes more than 12 % of the bytes, or search is
less than 4 times faster.

    .venv/bin/python benchmarks/systems/s1_32_pca_rag.py [--text FILE] [--model smollm2-135m]
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from real_tables import arguments_of, print_criteria

from shortlist import checkpoints
from shortlist.estimators import LowRank
from shortlist.estimators.low_rank import decode
from shortlist.models.decoder import Decoder
from shortlist.models.tokenizer import Tokenizer

PASSAGES, LENGTH, WINDOW = 20_000, 12, 504  # tokens; a window holds whole passages
RANK, RESCORED, WANTED = 64, 100, 10


def main() -> None:
    arguments = arguments_of(__doc__, "smollm2-135m")
    vectors = passages(arguments.model, arguments.text.read_text(encoding="utf-8"))
    is_query = np.arange(len(vectors)) % 100 == 0
    queries, table = vectors[is_query], np.ascontiguousarray(vectors[~is_query])
    print(f"{len(table)} passages, {len(queries)} queries, width {table.shape[1]}")

    estimator = LowRank(RANK, "pca", spread_per_query=False)
    state = estimator.fit(table, table[::4])
    short, projection = np.ascontiguousarray(decode(state)), state["projection"]

    def flat(query: np.ndarray) -> np.ndarray:
        return best(table @ query, WANTED)

    def through_pca(query: np.ndarray) -> np.ndarray:
        candidates = best(short @ (projection @ query), RESCORED)
        return candidates[best(table[candidates] @ query, WANTED)]

    recall = float(np.mean([np.isin(flat(q), through_pca(q)).mean() for q in queries]))
    speed = seconds(flat, queries) / seconds(through_pca, queries)
    share = estimator.bytes_per_query(*table.shape) / table.nbytes
    met = print_criteria(
        [
            ("recall@10", recall, recall >= 0.95, "0.95"),
            ("bytes of the index / float rows", share, share <= 0.12, "0.12"),
            ("flat search time / PCA search time", speed, speed >= 4, "at least 4"),
        ]
    )
    sys.exit(not met)


def passages(name: str, text: str) -> np.ndarray:
    """Vectors [passages, width] of length 1, of consecutive runs of tokens."""
    with checkpoints.open_checkpoint(checkpoints.resolve(name)) as checkpoint:
        decoder = Decoder(checkpoint)
        tokens = np.array(Tokenizer.from_checkpoint(checkpoint).encode(text, add_special=False), np.int32)
    tokens = tokens[: PASSAGES * LENGTH]
    means = []
    for start in range(0, len(tokens) - WINDOW + 1, WINDOW):
        hidden = decoder.forward(tokens[start : start + WINDOW], decoder.new_cache(WINDOW))
        means.append(hidden.reshape(-1, LENGTH, hidden.shape[1]).mean(axis=1))
    vectors = np.concatenate(means)
    vectors = vectors - vectors.mean(axis=0)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def best(scores: np.ndarray, count: int) -> np.ndarray:
    return np.argpartition(-scores, count)[:count]


def seconds(search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray) -> float:
    """Least time of five rounds over all queries."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for query in queries:
            search(query)
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
