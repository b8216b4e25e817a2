"""How to split a budget of bytes across layers: by measured sensitivity, or the same share everywhere.

Both splits leave out input channels of all places of a model's layers, as many bytes each, and are measured
on text that neither was fitted to. Prints Markdown.

    .venv/bin/python benchmarks/tune_split.py TEXT [--model smollm2-135m] [--tokens 1024]
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from shortlist import checkpoints
from shortlist.fit.channels import INPUT_TOKENS, Fitted, fit_sites, prices, unfitted_parts
from shortlist.fit.spend import Candidate, plan, steps_by_price
from shortlist.fit.tuner import SITE_TOKENS
from shortlist.measure.reference import Reference
from shortlist.model.decoder import Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.sites.base import MATRICES, sites_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path, help="its halves are fitted to and tested on")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=1024, help="to test on")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    text = arguments.text.read_text(encoding="utf-8")
    with checkpoints.open_checkpoint(checkpoints.resolve(arguments.model)) as checkpoint:
        tokenizer = Tokenizer.from_checkpoint(checkpoint)
        tuning, test = (
            np.array(tokenizer.encode(half, add_special=False), np.int32)
            for half in (text[: len(text) // 2], text[len(text) // 2 :])
        )
        make = partial(Decoder, checkpoint, ffn="dense", threads=arguments.threads)
        prefix = tokenizer.encode("")
        sites = [site for kind in MATRICES for site in sites_of(checkpoint, kind)]
        unfitted = make(parts=unfitted_parts(sites))
        fitted = fit_sites(sites, unfitted, tuning[:INPUT_TOKENS], prefix)
        dense = make()
        decoder = make(parts={site: some.part for site, some in fitted.items()})
        found = prices(fitted, decoder, Reference(dense, dense.head_rows, tuning[:SITE_TOKENS], prefix))
        test_reference = Reference(dense, dense.head_rows, test[: arguments.tokens], prefix)
    print_sensitivities(fitted, found)
    compare(decoder, fitted, found, test_reference, dense.layer_bytes)


def print_sensitivities(fitted: Mapping[str, Fitted], found: Sequence[Candidate]) -> None:
    tolerance = {each.site: each.loss / each.change for each in found if each.change}
    for kind in MATRICES:
        some = [site for site in fitted if site.endswith(f".{kind}")]
        values = ", ".join(f"{1e3 * tolerance[site]:.1f}" for site in some if site in tolerance)
        print(f"- {kind} ({fitted[some[0]].part.estimator}): {values}", flush=True)


def compare(
    decoder: Decoder,
    fitted: Mapping[str, Fitted],
    found: Sequence[Candidate],
    reference: Reference,
    layer_bytes: int,
) -> None:
    """Both splits at the bytes that the same share everywhere saves."""
    steps = steps_by_price(found)
    print("\n| saved | divergence, equal | by sensitivity | loss, equal | by sensitivity |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for index in range(max(len(some.candidates) for some in fitted.values())):
        equal = {
            place: option
            for place in fitted
            if (option := _candidate([o for o in found if o.site == place], index)) is not None
        }
        saved = sum(option.saved for option in equal.values())
        count = int(np.searchsorted(np.cumsum([step.saved for step in steps]), saved)) + 1
        split = plan(steps[:count])
        costs = []
        for chosen in (equal, split):
            for place, option in chosen.items():
                decoder.set_threshold(place, option.threshold)
            costs.append(reference.measure(decoder))
            for place in chosen:
                decoder.set_threshold(place, 0.0)
        figures = [f"{cost.divergence:.5f}" for cost in costs]
        figures += [f"{cost.loss.mean:+.5f} ± {1.96 * cost.loss.error:.5f}" for cost in costs]
        print(f"| {saved / layer_bytes:.1%} | {' | '.join(figures)} |", flush=True)


def _candidate(some: Sequence[Candidate], index: int) -> Candidate | None:
    return some[min(index, len(some) - 1)] if some else None


if __name__ == "__main__":
    main()
