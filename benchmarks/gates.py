"""All gates on two small tasks, equal compute, three seeds: loss, active experts, load imbalance, step time.

The tasks are a character model of text and a classifier of scikit-learn's digits, both with 8 experts
(`lab/systems/small_mixtures.py`). Every gate may compute as much as top-2 does in the given number of steps.
`train` adds what it measures to a file, so gates can be trained one after the other; `time` adds the time of
a training step, for a quiet machine; `report` prints the file as tables with a recommended default, and draws
it.

    .venv/bin/python benchmarks/gates.py train gates.json [--gates softmax ...] [--seeds 0 1 2] [--text FILE]
    .venv/bin/python benchmarks/gates.py time gates.json
    .venv/bin/python benchmarks/gates.py report gates.json [--plot docs/gates.png]
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "lab" / "systems"))

from small_mixtures import TEXT, Digits, MakeGate, Text, Training, train

from shortlist.torch.gates import GATES, Comet, ConstantNorm, Permuted, Sigmoid, SoftmaxTopK

Measured = dict[str, dict[str, dict[str, Any]]]  # task, or "time"; gate; seed

STEPS = {"text": 200, "digits": 120}
K = 2
OPTIONS: dict[str, MakeGate] = {
    "sigmoid": lambda w, e: Sigmoid(w, e, rate=0.01),  # 0.001 is for long runs
    "constant_norm of softmax": lambda w, e: ConstantNorm(SoftmaxTopK(w, e)),
    "permuted of comet": lambda w, e: Permuted(Comet(w, e)),
}
TRAINED_APART = {"norm_threshold"}  # by the norms of a dense model's experts
CANDIDATES: dict[str, MakeGate] = {
    name: make for name, make in {**GATES, **OPTIONS}.items() if name not in TRAINED_APART
}
USUAL = {"load_balance": 0.01, "router_z": 0.001}
HARDEN = {"entropy": 0.05, "load_balance": 0.01}
LOSSES = {"comet": HARDEN, "permuted of comet": HARDEN, "l1": {"l1": 0.01}}
NOT_TOKEN_BY_TOKEN = {"expert_choice"}  # what it chooses depends on later tokens
BALANCED = 1.5  # load of the busiest expert in units of the mean, that a default may have


def main() -> None:
    torch.set_num_threads(1)
    arguments = parse()
    measured = json.loads(arguments.file.read_text()) if arguments.file.exists() else {}
    if arguments.command == "report":
        report(measured)
        if arguments.plot:
            draw(measured, arguments.plot)
        return
    tasks = {"text": Text(arguments.text), "digits": Digits()}
    for gate in arguments.gates:
        if arguments.command == "time":
            step_time(measured, gate, tasks["text"])
        for seed in arguments.seeds if arguments.command == "train" else ():
            for name, task in tasks.items():
                training = Training(STEPS[name], K, weights=LOSSES.get(gate, USUAL))
                result = train(task, CANDIDATES[gate], seed, training)
                measured.setdefault(name, {}).setdefault(gate, {})[str(seed)] = asdict(result)
                print(f"{name} {gate} {seed}: loss {result.loss:.4f}, active {result.active:.2f}", flush=True)
        whole = arguments.file.with_suffix(".part")
        whole.write_text(json.dumps(measured))
        whole.replace(arguments.file)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["train", "time", "report"])
    parser.add_argument("file", type=Path, help="JSON, what was measured")
    parser.add_argument("--gates", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--text", type=Path, default=TEXT)
    parser.add_argument("--plot", type=Path, help="a PNG file")
    return parser.parse_args()


def step_time(measured: Measured, gate: str, text: Text) -> None:
    """Milliseconds of a training step of the character model, late in training."""
    result = train(text, CANDIDATES[gate], 0, Training(24, K, weights=LOSSES.get(gate, USUAL)))
    entry = measured.setdefault("time", {}).setdefault(gate, {"step_ms": result.step_ms})
    entry["step_ms"] = min(
        entry["step_ms"], result.step_ms
    )  # run again, it comes nearer to a quiet machine's
    print(f"{gate}: {result.step_ms:.1f} ms", flush=True)


def of(measured: Measured, task: str, gate: str, field: str) -> list[float]:
    """A measured quantity, of every seed."""
    return [result[field] for result in measured[task][gate].values()]


def by_loss(measured: Measured, task: str) -> list[str]:
    """Gates, the best first."""
    return sorted(measured[task], key=lambda gate: mean(of(measured, task, gate, "loss")))


def report(measured: Measured) -> None:
    """Print a table for each task, best loss first, and what follows for the default."""
    for task in STEPS:
        seeds = max(len(results) for results in measured[task].values())
        print(f"\n{task}, {seeds} seeds\n")
        print("| gate | loss | +- | accuracy | active experts | in training | busiest / mean | steps |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for gate in by_loss(measured, task):
            loss, accuracy, active, imbalance, steps = (
                mean(of(measured, task, gate, field))
                for field in ("loss", "accuracy", "active", "imbalance", "steps")
            )
            losses = of(measured, task, gate, "loss")
            error = stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else float("nan")
            trained = mean(mean(a for _, a in result["history"]) for result in measured[task][gate].values())
            print(
                f"| {gate} | {loss:.4f} | {error:.4f} | {accuracy:.2%} | {active:.2f} | {trained:.2f} | "
                f"{imbalance:.2f} | {steps:.0f} |"
            )
    if "time" in measured:
        print("\n| gate | ms of a training step |\n| --- | ---: |")
        for gate, entry in sorted(measured["time"].items(), key=lambda item: item[1]["step_ms"]):
            print(f"| {gate} | {entry['step_ms']:.1f} |")
    print(f"\nrecommended: {recommended(measured)}")


def recommended(measured: Measured) -> str:
    """The gate with the lowest text loss of those that a default can be.

    It goes by the token alone, has at most k active experts in the end, and leaves no expert with more than
    `BALANCED` times the mean load, on either task; and it is as good as random on neither.
    """

    def able(gate: str) -> bool:
        return gate not in NOT_TOKEN_BY_TOKEN and all(
            mean(of(measured, task, gate, "active")) <= K + 0.05
            and mean(of(measured, task, gate, "imbalance")) <= BALANCED
            and mean(of(measured, task, gate, "loss")) < mean(of(measured, task, "random", "loss"))
            for task in STEPS
        )

    able_gates = [gate for gate in measured["text"] if able(gate)]
    return min(able_gates, key=lambda gate: mean(of(measured, "text", gate, "loss")), default="none")


def draw(measured: Measured, path: Path) -> None:
    """Loss against the busiest expert's load, a point for each gate, one picture for each task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(STEPS), figsize=(11, 5), layout="constrained")
    for axis, task in zip(axes, STEPS, strict=True):
        for place, gate in enumerate(by_loss(measured, task)):
            x, y = (mean(of(measured, task, gate, field)) for field in ("imbalance", "loss"))
            losses = of(measured, task, gate, "loss")
            axis.errorbar(x, y, yerr=[[y - min(losses)], [max(losses) - y]], fmt="o", capsize=3)
            axis.annotate(
                gate, (x, y), textcoords="offset points", xytext=(5, 4 - 12 * (place % 2)), fontsize=8
            )
        axis.set(xlabel="load of the busiest expert / mean", ylabel="validation loss", title=task)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
