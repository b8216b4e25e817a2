"""Quality against active parameters for every method of `shortlist convert`, as a table and a plot.

Each row is converted, fitted and healed with the same small budget on the first part of the text, and
measured on the second. Rows are printed as they are done.

    .venv/bin/python benchmarks/convert_frontier.py [--text FILE] [--model smollm2-135m] [--sequences 16]
        [--heal-tokens 2048] [-o FOLDER]
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

from shortlist import checkpoints
from shortlist.torch.convert import METHODS, ConvertOptions, Text
from shortlist.torch.convert.heal import Budget
from shortlist.torch.convert.measure import measure
from shortlist.torch.convert.pipeline import heal, load_dense
from shortlist.torch.convert.texts import read_halves

TEXT = Path(__file__).parent / "data" / "shakespeare.txt"
ROWS = (
    ("read-me", 0.5),
    ("read-me", 0.75),
    ("cluster", 0.5),
    ("cluster", 0.75),
    ("upcycle", None),
    ("ternary", None),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m", help="one that was pulled, or its file")
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--sequences", type=int, default=16, help="of 256 tokens, to calibrate and heal on")
    parser.add_argument("--heal-tokens", type=int, default=2048, help="of gradient steps, for each row")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("frontier"), help="folder of table and plot"
    )
    arguments = parser.parse_args()
    path = checkpoints.resolve(arguments.model)
    halves = read_halves(path, [(arguments.text.name, arguments.text.read_text(encoding="utf-8"))])
    text = Text(halves.text.ids[: arguments.sequences], halves.text.domains[: arguments.sequences])
    test = halves.test[:8]
    dense, _ = load_dense(path)

    rows = [row("dense", None, None, measure(dense, test))]
    for name, active in ROWS:
        model, method = copy.deepcopy(dense), METHODS[name]()
        converted = method.convert(model, text, ConvertOptions(active=active), lambda *_: None)
        before = measure(model, test, converted.config)
        heal(converted, dense, text, method, Budget(tokens=arguments.heal_tokens))
        rows.append(row(name, active, before.perplexity, measure(model, test, converted.config)))

    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "frontier.json").write_text(json.dumps(rows, indent=2) + "\n")
    plot(rows, arguments.output / "frontier.png")


def row(name: str, active: float | None, converted: float | None, healed: Any) -> dict[str, Any]:
    """One row, printed."""
    label = name if active is None else f"{name}, {active:.0%}"
    if converted is None:
        print("| | active FFN | active parameters | read per token | perplexity, converted | healed |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print(
        f"| {label} | {healed.active_ffn:.0%} | {healed.active_parameters / 1e6:.1f} M "
        f"| {healed.bytes_per_token / 1e6:.0f} MB | {'' if converted is None else f'{converted:.1f}'} "
        f"| {healed.perplexity:.2f} |",
        flush=True,
    )
    return {
        "label": label,
        "method": name,
        "active_parameters": healed.active_parameters,
        "converted": converted,
        "perplexity": healed.perplexity,
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Perplexity after healing against active parameters."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for method in dict.fromkeys(row["method"] for row in rows):
        points = sorted(
            (r["active_parameters"] / 1e6, r["perplexity"]) for r in rows if r["method"] == method
        )
        axes.plot(*zip(*points, strict=True), marker="o", label=method)
    axes.set(xlabel="active parameters, millions", ylabel="perplexity after healing", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
