"""Tiny language models for systems of training: the same text, sizes and schedule, and what they cost."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from shortlist.torch import moe_layers
from shortlist.torch import train as training
from shortlist.torch.train import metrics
from shortlist.torch.train.config import Config, DataConfig, LoopConfig, ModelConfig
from shortlist.torch.train.result import Run

TEXT = Path(__file__).parents[2] / "benchmarks" / "data" / "shakespeare-plays.txt"
SEEDS = (0, 1, 2)


def text_of(doc: str | None) -> str:
    """The file of `--text`, by default one that the project carries."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--text", default=str(TEXT), metavar="FILE", help="a text to train on")
    return parser.parse_args().text


def base_config(text: str, layers: int, neurons: int, steps: int) -> Config:
    """A dense model of width 64 that reads 1,024 tokens in each step."""
    return Config(
        DataConfig((text,), vocabulary=1024),
        ModelConfig(hidden_size=64, intermediate_size=neurons, num_hidden_layers=layers),
        training=LoopConfig(
            steps=steps,
            batch=16,
            context=64,
            learning_rate=3e-3,
            warmup=20,
            log_every=1,
            validate_every=steps,
            checkpoint_every=steps,
            validation_tokens=16_384,
        ),
    )


def train(config: Config, folder: Path, tokenizer: Path | None = None, **loop: Any) -> Run:
    """A run, with the tokenizer of an earlier one and changes to `[training]`."""
    data = replace(config.data, tokenizer=tokenizer and str(tokenizer))
    return training.train(replace(config, data=data, training=replace(config.training, **loop)), folder)


def active_experts(run: Run) -> list[float]:
    """Experts of a token in each step, on average over layers with some."""
    lines = metrics.read(run.folder)
    return [sum(layer["active"] for layer in line["experts"]) / len(line["experts"]) for line in lines]


def multiply_adds(run: Run) -> float:
    """Of all forward passes of a run: every matrix on a token's way, experts as often as they were chosen."""
    routed = [layer.experts for layer in moe_layers(run.model)]
    in_experts = sum(p.numel() for experts in routed for p in experts.parameters())
    # The embedding is looked up, and as the head, which it is too, multiplied.
    always = sum(p.numel() for p in run.model.parameters() if p.dim() > 1) - in_experts
    loop = run.config.training
    total = 0.0
    for line in metrics.read(run.folder):
        chosen = sum(
            layer["active"] * sum(p.numel() for p in experts.parameters()) / experts.count
            for layer, experts in zip(line["experts"], routed, strict=True)
        )
        total += (always + chosen) * loop.batch * loop.context
    return total


def print_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """In Markdown."""
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
