"""Divides the bytes of a checkpoint among head, attention, feed-forward layers and the rest."""

from typing import Any

from shortlist.checkpoints.base import Checkpoint

# Part of the model for each tensor, by the last word of its name; all others are norms and biases.
PARTS = {
    "embedding": "embedding",
    "head": "head",
    **dict.fromkeys(("q", "k", "v", "o"), "attention"),
    **dict.fromkeys(("gate", "up", "down"), "feed-forward"),
    **dict.fromkeys(("router", "router_hidden", "shared_gate"), "routers"),
    **dict.fromkeys(("router_project", "router_up", "router_down"), "routers"),
}


def describe_parts(checkpoint: Checkpoint) -> dict[str, dict[str, Any]]:
    """Stored bytes and types of each part of the model, the largest first."""
    parts: dict[str, dict[str, Any]] = {}
    for name, tensor in checkpoint.tensors.items():
        part = parts.setdefault(_part(name, tied=checkpoint.config.tied_head), {"bytes": 0, "types": []})
        part["bytes"] += tensor.data.nbytes
        part["types"] = sorted({*part["types"], tensor.type})
    return dict(sorted(parts.items(), key=lambda item: -item[1]["bytes"]))


def bytes_per_token(checkpoint: Checkpoint) -> float:
    """Stored bytes that are read to decode a token."""
    return sum(read_parts(checkpoint).values())


def read_parts(checkpoint: Checkpoint) -> dict[str, float]:
    """Bytes per token of each part; experts count with the largest number that a token may choose."""
    parts: dict[str, float] = {name: part["bytes"] for name, part in describe_parts(checkpoint).items()}
    parts.pop("embedding", None)  # a token reads one row; a tied embedding counts as the head
    if mixture := checkpoint.config.mixture:
        parts["experts"] *= (mixture.per_token or mixture.experts) / mixture.experts
    return parts


def _part(name: str, *, tied: bool) -> str:
    if ".experts." in name:
        return "experts"
    part = PARTS.get(name.rpartition(".")[2], "norms and biases")
    return "head = embedding" if tied and part == "embedding" else part
