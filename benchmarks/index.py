"""The vector index against faiss (flat and IVF) and usearch (HNSW): recall@10 against queries per second.

Two tables: the rows of a model's head, searched with hidden states of a text, which are unlike the rows; and
random vectors around random centres, searched with their like. Every engine gets the same vectors, threads
and queries in one run; each figure is the best of a few rounds, in turns. Prints Markdown.

    pip install 'shortlist[bench,report]'
    OMP_NUM_THREADS=2 .venv/bin/python benchmarks/index.py TEXT [--model smollm2-135m] [--threads 2]
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import faiss  # pyright: ignore[reportMissingImports]
import matplotlib.pyplot as plt
import numpy as np
from usearch.index import Index as Hnsw  # pyright: ignore[reportMissingImports]

import shortlist
from shortlist import _native
from shortlist.estimators import LowRank
from shortlist.index import Index
from shortlist.measure.teacher_forced import windows

K, QUERIES, SINGLE, ROUNDS = 10, 256, 32, 3
FIT_TOKENS = 2048
CLUSTERS, CLUSTERED = 512, (50_000, 128)
LISTS, PROBES = 512, (1, 4, 16, 64)
EXPANSIONS = (32, 128, 512)
KEEPS = (0.001, 0.003, 0.01, 0.03)

Search = Callable[[np.ndarray], np.ndarray]  # queries [n, width] -> ids [n, K]
Point = tuple[str, float, float]  # engine, recall, queries per second
LOOKS = {  # colours that colour-blind eyes tell apart, and shapes
    "faiss Flat": ("#000000", "*"),
    "faiss IVF": ("#D55E00", "s"),
    "usearch HNSW": ("#009E73", "^"),
    "shortlist float32": ("#0072B2", "o"),
    "shortlist int8": ("#56B4E9", "v"),
}


class Engine(NamedTuple):
    name: str
    build_seconds: float
    searches: dict[str, Search]  # by setting


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--model", default="smollm2-135m", help="a model that was fetched, or a GGUF file")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="also draw recall against speed to this file")
    arguments = parser.parse_args()
    faiss.omp_set_num_threads(arguments.threads)
    _native.set_threads(arguments.threads)

    head, hidden = head_and_hidden(arguments.model, arguments.text, arguments.threads)
    rows = f"head rows of {Path(arguments.model).stem}"
    random, like = clustered()
    measured = {
        rows: compare(rows, head, hidden[QUERIES:], hidden[:QUERIES], arguments),
        "clustered vectors": compare("clustered vectors", random, like[QUERIES:], like[:QUERIES], arguments),
    }
    if arguments.plot:
        draw(measured, arguments.plot)


def head_and_hidden(model: str, text: Path, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Head rows float32 [vocabulary, width], and shuffled hidden states float32 [samples, width]."""
    with shortlist.load(model, head="dense", threads=threads) as loaded:
        tokens = loaded.tokenizer.encode(text.read_text(encoding="utf-8"), add_special=False)
        tokens = tokens[: FIT_TOKENS + QUERIES]
        prefix = loaded.tokenizer.encode("")
        hidden = np.concatenate([states for states, _ in windows(loaded.decoder, tokens, prefix)])
        rows = loaded.decoder.head_rows
        table = rows.unpack(np.arange(rows.rows, dtype=np.int32))
    # The last tokens of the text are the queries: none of them is in a window that the fit sees.
    return table, np.ascontiguousarray(hidden[::-1])


def clustered() -> tuple[np.ndarray, np.ndarray]:
    """Vectors of norm 1 around common centres: a table, and samples to fit and search with."""
    random = np.random.default_rng(0)
    count, width = CLUSTERED
    centres = random.standard_normal((CLUSTERS, width))
    total = count + FIT_TOKENS + QUERIES
    noise = 0.7 * random.standard_normal((total, width))
    vectors = centres[random.integers(0, CLUSTERS, total)] + noise
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors[:count], vectors[count:]


def compare(
    title: str, table: np.ndarray, examples: np.ndarray, queries: np.ndarray, arguments: argparse.Namespace
) -> list[Point]:
    """Prints the table of one set of vectors, and returns its points."""
    engines = list(build(table, examples, arguments.threads))
    searches = {(e.name, setting): search for e in engines for setting, search in e.searches.items()}
    truth = searches["faiss Flat", ""](queries)
    batch, single = dict.fromkeys(searches, 0.0), dict.fromkeys(searches, 0.0)
    for _ in range(ROUNDS):
        for name, search in searches.items():
            batch[name] = max(batch[name], rate(search, [queries]))
            single[name] = max(single[name], rate(search, np.split(queries[:SINGLE], SINGLE)))

    print(f"\n{title}, {table.shape[0]} x {table.shape[1]}, {arguments.threads} threads\n")
    print(
        f"| index | setting | build s | recall@{K} | queries/s, {QUERIES} at once | queries/s, one by one |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    points: list[Point] = []
    for engine in engines:
        for setting, search in engine.searches.items():
            found = search(queries)
            recall = np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, truth, strict=True)])
            key = engine.name, setting
            print(
                f"| {engine.name} | {setting} | {engine.build_seconds:.1f} | {recall:.3f} "
                f"| {batch[key]:.0f} | {single[key]:.0f} |",
                flush=True,
            )
            points.append((engine.name, float(recall), batch[key]))
    return points


def draw(measured: dict[str, list[Point]], file: Path) -> None:
    """Recall against queries per second, a panel for each table, to a PNG or SVG file."""
    figure, panels = plt.subplots(1, len(measured), figsize=(5.4 * len(measured), 4.2), layout="constrained")
    for panel, (title, points) in zip(panels, measured.items(), strict=True):
        for engine in dict.fromkeys(name for name, _, _ in points):
            own = sorted((recall, speed) for name, recall, speed in points if name == engine)
            colour, marker = LOOKS[engine]
            panel.plot(*zip(*own, strict=True), marker, color=colour, label=engine, alpha=0.85)
        panel.set(title=title, xlabel=f"recall@{K}", ylabel=f"queries/s, {QUERIES} at once", yscale="log")
        panel.grid(alpha=0.3)
    panels[-1].legend()
    figure.savefig(file, dpi=110)


def rate(search: Search, batches: list[np.ndarray]) -> float:
    start = time.perf_counter()
    for batch in batches:
        search(batch)
    return sum(map(len, batches)) / (time.perf_counter() - start)


def build(table: np.ndarray, examples: np.ndarray, threads: int) -> Iterator[Engine]:
    count, width = table.shape

    start = time.perf_counter()
    flat = faiss.IndexFlatIP(width)
    flat.add(table)  # pyright: ignore[reportCallIssue]
    yield Engine("faiss Flat", time.perf_counter() - start, {"": lambda q: flat.search(q, K)[1]})

    start = time.perf_counter()
    coarse = faiss.IndexFlatIP(width)
    lists = faiss.IndexIVFFlat(coarse, width, LISTS, faiss.METRIC_INNER_PRODUCT)
    lists.train(table)  # pyright: ignore[reportCallIssue]
    lists.add(table)  # pyright: ignore[reportCallIssue]

    def search_lists(queries: np.ndarray, probes: int) -> np.ndarray:
        lists.nprobe = probes
        return lists.search(queries, K)[1]

    settings = {f"{LISTS} lists, {p} probed": lambda q, p=p: search_lists(q, p) for p in PROBES}
    yield Engine("faiss IVF", time.perf_counter() - start, settings)

    start = time.perf_counter()
    graph = Hnsw(ndim=width, metric="ip", dtype="f32")
    graph.add(np.arange(count), table, threads=threads)

    def search_graph(queries: np.ndarray, expansion: int) -> np.ndarray:
        graph.expansion_search = expansion
        return np.asarray(graph.search(queries, K, threads=threads).keys).reshape(len(queries), K)

    settings = {f"expansion {e}": lambda q, e=e: search_graph(q, e) for e in EXPANSIONS}
    yield Engine("usearch HNSW", time.perf_counter() - start, settings)

    for rows in ("float32", "int8"):
        start = time.perf_counter()
        plain = Index(width, rows=rows)
        plain.add(table)
        yield Engine(
            f"shortlist {rows}",
            time.perf_counter() - start,
            {"every row": lambda q, i=plain: i.search(q, K, keep=1).ids},
        )
        for rank in sorted({max(32, width // share // 32 * 32) for share in (8, 4)}):
            start = time.perf_counter()
            index = Index(width, rows=rows)
            index.add(table)
            index.fit(examples, LowRank(rank=rank))
            settings = {
                f"rank {rank}, keep {keep:.1%}": lambda q, i=index, keep=keep: i.search(q, K, keep).ids
                for keep in KEEPS
            }
            yield Engine(f"shortlist {rows}", time.perf_counter() - start, settings)


if __name__ == "__main__":
    main()
