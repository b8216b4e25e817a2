"""Read-ME (s2-5): a dense model at half of its FFN, with one router that knows every route before layer 1.

Converts, fits and heals on one half of the text, measures perplexity on the other, then what a cache of
half of the experts hits: least recently used, and Belady's, which knows the routes of the tokens in the
queue. Both meet the same routes: requests in turns, each a piece of the text. Exits with 1 where a target
is missed.

    .venv/bin/python lab/systems/s2_5_read_me.py [--text FILE] [--model smollm2-135m] [--tokens 4096]
"""

import argparse
import copy
import sys
from pathlib import Path

import torch
from real_tables import TEXT, print_criteria

from shortlist import checkpoints
from shortlist.torch.convert import ConvertOptions, ReadMe, Text
from shortlist.torch.convert.heal import Budget
from shortlist.torch.convert.measure import measure
from shortlist.torch.convert.pipeline import heal, load_dense
from shortlist.torch.convert.texts import read_halves
from shortlist.torch.shared_router import route

REQUESTS = 8
WORSE, LEAD = 0.10, 0.10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="one that was pulled, or its file")
    parser.add_argument("--text", type=Path, default=TEXT, help="its halves are healed on and tested on")
    parser.add_argument("--tokens", type=int, default=4096, help="of gradient steps, after the fit")
    parser.add_argument("--sequences", type=int, default=32, help="of 256 tokens, to calibrate and heal on")
    parser.add_argument("--experts", type=int, default=4)
    arguments = parser.parse_args()
    path = checkpoints.resolve(arguments.model)
    halves = read_halves(path, [(arguments.text.name, arguments.text.read_text(encoding="utf-8"))])
    text = Text(halves.text.ids[: arguments.sequences], halves.text.domains[: arguments.sequences])
    test = halves.test[:REQUESTS]
    dense, _ = load_dense(path)
    model = copy.deepcopy(dense)

    before = measure(dense, test).perplexity
    print(f"dense: perplexity {before:.2f}", flush=True)
    method = ReadMe()
    options = ConvertOptions(experts=arguments.experts, active=0.5)
    converted = method.convert(model, text, options, lambda *_: None)
    print(f"converted: {measure(model, test, converted.config)}", flush=True)
    print(", ".join(f"{name} {value:.1%}" for name, value in converted.notes.items()), flush=True)
    healed = heal(converted, dense, text, method, Budget(tokens=arguments.tokens))
    after = measure(model, test, converted.config)
    print(
        f"healed, {healed.tokens} tokens in {healed.seconds:.0f} s of steps after the fit: {after}\n",
        flush=True,
    )

    leads = cache_leads(model, test, arguments.experts)
    met = print_criteria(
        [
            (
                "perplexity, against the dense model's",
                after.perplexity / before - 1,
                after.perplexity <= (1 + WORSE) * before,
                f"{WORSE}",
            ),
            ("share of neurons that a token takes", after.active_ffn, after.active_ffn <= 0.5, "0.5"),
            ("hit rate over LRU's, known routes", leads, leads >= LEAD, f"{LEAD}"),
        ]
    )
    sys.exit(not met)


def cache_leads(model, ids: torch.Tensor, experts: int) -> float:
    """How much more often Belady's cache of half of the experts hits than LRU, over the routes of a queue."""
    with torch.no_grad():
        tokens = route(model, model.base_model.router, ids[:REQUESTS])
    assert tokens.scores is not None
    routes = tokens.scores.argmax(-1).view(REQUESTS, -1).T.flatten().tolist()  # requests in turns
    capacity = experts // 2
    lru, belady = lru_hits(routes, capacity), belady_hits(routes, capacity)
    print(f"{len(routes)} routes known before layer 1, load {[routes.count(e) for e in range(experts)]}")
    print(f"cache of {capacity} of {experts} experts: LRU hits {lru:.1%}, Belady {belady:.1%}")
    return belady - lru


def lru_hits(routes: list[int], capacity: int) -> float:
    """Share of requests for what was among the last `capacity` different ones."""
    cached: list[int] = []
    hits = 0
    for expert in routes:
        if expert in cached:
            hits += 1
            cached.remove(expert)
        cached = [*cached[-(capacity - 1) :], expert] if capacity > 1 else [expert]
    return hits / len(routes)


def belady_hits(routes: list[int], capacity: int) -> float:
    """The same where what is needed last makes room (Belady, 1966)."""
    cached: set[int] = set()
    hits = 0
    for now, expert in enumerate(routes):
        if expert in cached:
            hits += 1
            continue
        if len(cached) == capacity:
            following = routes[now + 1 :]
            cached.remove(max(cached, key=lambda e: following.index(e) if e in following else len(routes)))
        cached.add(expert)
    return hits / len(routes)


if __name__ == "__main__":
    main()
