"""`shortlist inspect`: what a model is, where its bytes are, and what its recipe measured."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shortlist.cli import options as shared
from shortlist.cli.output import megabytes, print_json

if TYPE_CHECKING:
    from shortlist.checkpoints import Checkpoint

BAR = 24  # characters of a bar that stands for all bytes

# Part of the model for each tensor, by the last word of its name; all others are norms and biases.
PARTS = {
    "embedding": "embedding",
    "head": "head",
    **dict.fromkeys(("q", "k", "v", "o"), "attention"),
    **dict.fromkeys(("gate", "up", "down"), "feed-forward"),
}


def inspect(model: shared.ModelName, recipe: shared.Recipe = None, json: shared.Json = False) -> None:
    """Show the sizes of MODEL, where its bytes are, and its recipe. The weights are not read."""
    from shortlist import checkpoints

    with checkpoints.open_checkpoint(checkpoints.resolve(model)) as checkpoint:
        report = describe(checkpoint)
    if json:
        print_json({"model": model, **report})
    else:
        print_report(report)


def describe(checkpoint: "Checkpoint") -> dict[str, Any]:
    """Path, family, sizes, and for each part its stored bytes and types."""
    config = asdict(checkpoint.config)
    del config["rope_frequencies"]  # thousands of numbers that nobody reads
    windows = config.pop("windows")
    parts: dict[str, dict[str, Any]] = {}
    for name, tensor in checkpoint.tensors.items():
        part = parts.setdefault(_part(name, tied=checkpoint.config.tied_head), {"bytes": 0, "types": []})
        part["bytes"] += tensor.data.nbytes
        part["types"] = sorted({*part["types"], tensor.type})
    return {
        "path": str(checkpoint.path),
        "fingerprint": checkpoint.fingerprint,
        "config": {**config, "layers_with_window": sum(window > 0 for window in windows)},
        "bytes": sum(part["bytes"] for part in parts.values()),
        "parts": dict(sorted(parts.items(), key=lambda item: -item[1]["bytes"])),
    }


def _part(name: str, *, tied: bool) -> str:
    part = PARTS.get(name.rpartition(".")[2], "norms and biases")
    return "head = embedding" if tied and part == "embedding" else part


def print_report(report: dict[str, Any]) -> None:
    """For people: a few lines, then a bar for each part."""
    from rich.console import Console
    from rich.table import Table

    config = report["config"]
    console = Console(highlight=False)
    for name, value in (
        ("file", report["path"]),
        ("family", config["family"]),
        ("layers", f"{config['layers']}, {config['layers_with_window']} of them with a sliding window"),
        ("width", f"{config['width']}, feed-forward {config['ffn_width']}"),
        (
            "attention",
            f"{config['heads']} heads of {config['head_dim']}, {config['kv_heads']} for keys and values",
        ),
        ("vocabulary", config["vocab_size"]),
        ("context", f"{config['context_length']} tokens"),
        ("bytes", megabytes(report["bytes"])),
    ):
        console.print(f"{name:12}{value}", soft_wrap=True, markup=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, part in report["parts"].items():
        share = part["bytes"] / report["bytes"]
        table.add_row(
            name, "█" * max(1, round(share * BAR)), f"{share:.1%}", megabytes(part["bytes"]), _types(part)
        )
    console.print()
    console.print(table)


def _types(part: dict[str, Iterable[str]]) -> str:
    return ", ".join(part["types"])
