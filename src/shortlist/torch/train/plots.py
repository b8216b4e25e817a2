"""The figures of a run as SVG files: loss, load of the experts, sharpness of the gates, routing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shortlist.drawing import INK, LINES, SIZE, check_installed, settings, to_svg
from shortlist.errors import UsageError
from shortlist.paths import write_whole
from shortlist.torch.train import metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shortlist.torch.train.result import Run

SAMPLE_TOKENS = 48


def draw_plots(run: Run) -> list[Path]:
    """Draw all figures of a run anew, in its folder `plots`.

    Raises
    ------
    UsageError
        The run has no metrics yet.
    ShortlistError
        Matplotlib is missing, or a file cannot be written.
    """
    check_installed()
    lines = metrics.read(run.folder)
    if not lines:
        raise UsageError(f"{run.folder} has no metrics yet: continue it with shortlist train {run.folder}")
    figures = {"loss": lambda: loss_figure(lines)}
    if lines[-1]["experts"]:
        words, weights = _sample_routing(run)
        figures |= {
            "expert-load": lambda: load_figure(lines),
            "gate-sharpness": lambda: sharpness_figure(lines),
            "routing": lambda: routing_figure(words, weights),
        }
    folder = run.folder / "plots"
    folder.mkdir(exist_ok=True)
    written = []
    for name, draw in figures.items():
        with settings(name):
            svg = to_svg(draw(), f"{name} of a training run")
        written.append(folder / f"{name}.svg")
        write_whole(written[-1], svg)
    return written


def loss_figure(lines: Sequence[dict[str, Any]]) -> Figure:
    """Training and validation loss over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for look, key, label in zip(LINES, ("loss", "validation_loss"), ("training", "validation"), strict=False):
        points = [(line["step"], line[key]) for line in lines if key in line]
        if points:
            marker = look.marker if key == "validation_loss" else ""
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=look.colour, linestyle=look.line, marker=marker, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def load_figure(lines: Sequence[dict[str, Any]]) -> Figure:
    """A heat map for each layer: every expert's share of the load over the steps; an even share is 1."""
    layers = range(len(lines[-1]["experts"]))
    figure, rows = _stacked(len(layers))
    for layer, axes in zip(layers, rows, strict=True):
        load = np.array([line["experts"][layer]["load"] for line in lines]).T
        axes.imshow(
            load * len(load),
            aspect="auto",
            interpolation="nearest",
            cmap="cividis",
            vmin=0,
            vmax=3,
            extent=(lines[0]["step"], max(lines[-1]["step"], lines[0]["step"] + 1), len(load) - 0.5, -0.5),
        )
        _label_experts(axes, layer, len(load))
    rows[-1].set_xlabel("step")
    figure.colorbar(rows[-1].images[0], ax=rows, label="load, 1 = even", extend="max")
    return figure


def sharpness_figure(lines: Sequence[dict[str, Any]]) -> Figure:
    """Number and effective number of experts of a token over the steps; layers from dark to light."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.7 * SIZE[0], SIZE[1]), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    steps = [line["step"] for line in lines]
    count = len(lines[-1]["experts"])
    for layer in range(count):
        colour = colormaps["viridis"](0.9 * layer / max(count - 1, 1))
        for axes, key in ((left, "active"), (right, "effective")):
            values = [line["experts"][layer][key] for line in lines]
            axes.plot(steps, values, color=colour, label=f"layer {layer}" if key == "active" else None)
    left.set_ylabel("experts of a token")
    left.set_title("computed")
    right.set_title("exp(entropy of their weights)")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.margins(y=0.1)
        axes.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=min(count, 6))
    return figure


def routing_figure(words: Sequence[str], weights: Sequence[np.ndarray]) -> Figure:
    """A heat map for each layer: routing weights [tokens, experts] of a sample of text."""
    figure, rows = _stacked(len(weights), width=max(SIZE[0], 0.17 * len(words) + 1.5))
    for layer, (axes, table) in enumerate(zip(rows, weights, strict=True)):
        axes.imshow(
            table.T,
            aspect="auto",
            interpolation="nearest",
            cmap="cividis",
            vmin=0,
            vmax=1,
        )
        _label_experts(axes, layer, table.shape[1])
    rows[-1].set_xticks(range(len(words)), words, rotation=90, fontsize=7)
    rows[-1].tick_params(labelbottom=True)
    figure.colorbar(rows[-1].images[0], ax=rows, label="weight")
    return figure


def _stacked(count: int, width: float = SIZE[0]) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 1.2 + 1.1 * count), layout="constrained")
    rows = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axes in rows:
        axes.grid(visible=False)
    return figure, rows


def _label_experts(axes: Any, layer: int, count: int) -> None:
    axes.set_ylabel(f"layer {layer}", color=INK)
    axes.set_yticks(sorted({0, count - 1}))


def _sample_routing(run: Run) -> tuple[list[str], list[np.ndarray]]:
    """The first words of the validation text, and each layer's routing weights [tokens, experts] for them."""
    import torch

    from shortlist.torch.moe import moe_layers
    from shortlist.torch.train.text import read_texts

    text = read_texts(run.config.data)[1][0]
    tokens = run.tokenizer.encode(text[: 16 * SAMPLE_TOKENS], add_special=False)[:SAMPLE_TOKENS]
    words = [run.tokenizer.decode([token]).replace("\n", "⏎").strip() or "·" for token in tokens]
    with torch.no_grad(), torch.random.fork_rng():
        run.model(input_ids=torch.tensor([tokens], device=run.model.device), use_cache=False)
    routings = [layer.routing for layer in moe_layers(run.model)]
    return words, [routing.dense().float().cpu().numpy() for routing in routings if routing is not None]
