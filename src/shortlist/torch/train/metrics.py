"""The metrics of a run: lines of JSON, among them the use of experts."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from shortlist.errors import CheckpointError, ShortlistError
from shortlist.paths import write_whole
from shortlist.torch import Routing
from shortlist.torch.moe import moe_layers

FILE_NAME = "metrics.jsonl"


def expert_stats(model: nn.Module) -> list[dict[str, Any]]:
    """The use of experts in the latest step: a record for each layer that has experts.

    `load`: each expert's share of all pairs of a token and an expert. `active`: mean number of experts of a
    token. `effective`: the exponential of the entropy of a token's weights; it equals `active` where weights
    are equal, and falls as a gate becomes sharp.
    """
    return [_stats(layer.routing) for layer in moe_layers(model) if layer.routing is not None]


def append(run: Path, line: dict[str, Any]) -> None:
    """Add a line to the metrics of a run.

    Raises
    ------
    ShortlistError
        The file cannot be written.
    """
    try:
        with (run / FILE_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise ShortlistError(f"{run / FILE_NAME} cannot be written: {error.strerror}") from None


def read(run: Path) -> list[dict[str, Any]]:
    """All lines of a run, without a last line that a crash cut off.

    Raises
    ------
    CheckpointError
        Another line is damaged.
    """
    path = run / FILE_NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): delete it, and the run goes on without"
        ) from None


def forget_after(run: Path, step: int) -> None:
    """Drop the lines of later steps, which are about to be repeated."""
    kept = [line for line in read(run) if line["step"] <= step]
    write_whole(run / FILE_NAME, "".join(json.dumps(line) + "\n" for line in kept))


def _stats(routing: Routing) -> dict[str, Any]:
    weights = routing.dense().detach().float().abs()
    shares = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
    entropy = -(shares * shares.clamp(min=1e-9).log()).sum(-1)
    load = routing.load.float()
    return {
        "load": [round(share, 5) for share in (load / load.sum().clamp(min=1)).tolist()],
        "active": len(routing.tokens) / max(routing.shape[0], 1),
        "effective": float(entropy.exp().mean()),
    }
