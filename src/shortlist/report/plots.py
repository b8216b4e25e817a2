"""The figures of a report as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shortlist.drawing import INK, LINES, LOOKS, PART_LOOKS, SIZE, settings, to_svg
from shortlist.report.labels import name_points
from shortlist.report.verdict import NORMAL_95

NAMES = {"exact": "exact: all of it", "gate": "gate, in full"}
"""Legend labels of methods whose names say too little."""


def bytes_figure(per_token: Mapping[str, Mapping[str, float]]) -> str:
    """A stacked bar for each way to decode: the megabytes of each part that a token reads."""
    from matplotlib.figure import Figure

    with settings("bytes"):
        figure = Figure(figsize=(SIZE[0], 1.3 + 0.55 * len(per_token)), layout="constrained")
        axes = figure.add_subplot()
        names = list(per_token)
        left = [0.0] * len(names)
        longest = max(sum(parts.values()) for parts in per_token.values()) / 1e6
        for part, (colour, hatch) in PART_LOOKS.items():
            widths = [per_token[name][part] / 1e6 for name in names]
            axes.barh(
                names, widths, left=left, label=part, color=colour, hatch=hatch, edgecolor="white", height=0.6
            )
            for place, (start, width) in enumerate(zip(left, widths, strict=True)):
                if width > 0.09 * longest:
                    axes.text(
                        start + width / 2,
                        place,
                        short(width),
                        ha="center",
                        va="center",
                        color="black",
                        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2, "alpha": 0.85},
                    )
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for place, total in enumerate(left):
            axes.text(total + 0.01 * longest, place, f"{short(total)} MB", va="center")
        axes.set_xlim(0, 1.16 * longest)
        axes.set_xlabel("MB of weights read per token")
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower center", ncols=3)
        return to_svg(figure, "Bar chart: megabytes read per token")


def short(count: float) -> str:
    """Megabytes for a label: whole numbers, or two digits below ten."""
    return f"{count:.0f}" if count >= 10 else f"{count:.2g}"


def recall_figure(name: str, methods: Sequence[Mapping[str, Any]], wanted: str) -> str:
    """Recall against bytes, a line for each estimator; `wanted` names the units that recall counts."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    series: dict[str, list[tuple[float, float]]] = {}
    for method in methods:
        series.setdefault(method["estimator"], []).append((method["bytes_share"], method["found"][wanted]))
    with settings(f"{name} {wanted}"):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        for estimator, points in series.items():
            look = LOOKS[estimator]
            xs, ys = zip(*sorted(points), strict=True)
            if estimator == "random":  # its recall does not depend on bytes
                axes.axhline(ys[0], color=look.colour, linestyle=look.line, label="random")
                continue
            axes.plot(
                xs,
                ys,
                color=look.colour,
                marker=look.marker,
                linestyle=look.line,
                markersize=10 if estimator == "exact" else 6.5,
                markeredgecolor=INK,
                markeredgewidth=0.6,
                label=NAMES.get(estimator, estimator.replace("_", " ")),
            )
        axes.set_xscale("log")
        ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(-0.03, 1.05)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.set_xlabel("bytes read, share of the table")
        axes.set_ylabel(f"recall, {wanted}")
        figure.legend(loc="outside lower center", ncols=3)
        return to_svg(figure, f"Line chart: recall of {wanted} against bytes, {name}")


def speed_figure(speed: Mapping[str, Any]) -> str:
    """Change of perplexity against tokens per second: this measurement, and the recipe's frontier.

    A frontier with a point for dense is scaled so that dense is as fast there as it is now.
    """
    from matplotlib.figure import Figure

    with settings("speed"):
        figure = Figure(figsize=(SIZE[0], 3.8), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
        named: list[tuple[str, float, float, float]] = []
        others: list[tuple[float, float]] = []
        frontier = sorted(speed["frontier"], key=lambda point: point["tokens_per_s"])
        if frontier:
            look = LINES[2]
            now = _dense_speed(speed["points"]) or 1.0
            factor = now / (_dense_speed(frontier) or now)
            others = [(factor * p["tokens_per_s"], 100 * p["perplexity_change"]) for p in frontier]
            axes.plot(
                *zip(*others, strict=True),
                color=look.colour,
                marker=look.marker,
                linestyle=look.line,
                markeredgecolor=INK,
                label="tuned frontier, as its recipe has it",
            )
        for number, point in enumerate(speed["points"]):
            look, half = LINES[0], 100 * NORMAL_95 * point["perplexity_change_error"]
            axes.errorbar(
                point["tokens_per_s"],
                100 * point["perplexity_change"],
                yerr=half,
                color=look.colour,
                marker=look.marker,
                linestyle="none",
                markersize=8,
                capsize=4,
                label="measured now, 95 % interval" if number == 0 else None,
            )
            named.append((point["name"], point["tokens_per_s"], 100 * point["perplexity_change"], half))
        look, peer = LINES[1], speed["peer"]
        if "error" not in peer:
            axes.plot(
                peer["tokens_per_s"],
                0,
                color=look.colour,
                marker=look.marker,
                markerfacecolor="none",
                markersize=8,
                linestyle="none",
                label=f"{peer['name']}, speed only",
            )
            named.append((peer["name"], peer["tokens_per_s"], 0.0, 0.0))
        axes.margins(x=0.2, y=0.25)
        axes.set_xlabel("tokens per second")
        axes.set_ylabel("change of perplexity, %")
        figure.legend(loc="outside lower center", ncols=1)
        name_points(axes, named, others)
        return to_svg(figure, "Scatter chart: change of perplexity against tokens per second")


def layers_figure(channels: Mapping[str, Sequence[float]]) -> str:
    """Share of input channels that is read, a line over the layers for each kind of input."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    with settings("layers"):
        figure = Figure(figsize=(SIZE[0], 3.8), layout="constrained")
        axes = figure.add_subplot()
        for look, (kind, shares) in zip(LINES, channels.items(), strict=True):
            axes.plot(
                range(len(shares)),
                shares,
                color=look.colour,
                marker=look.marker,
                linestyle=look.line,
                markeredgecolor=INK,
                markeredgewidth=0.5,
                label=kind.replace("_", " and "),
            )
        axes.set_ylim(0, 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        axes.set_xlabel("layer")
        axes.set_ylabel("input channels read")
        figure.legend(loc="outside lower center", ncols=4)
        return to_svg(figure, "Line chart: share of the input channels that each layer reads")


def _dense_speed(points: Sequence[Mapping[str, Any]]) -> float | None:
    return next((point["tokens_per_s"] for point in points if point["name"] == "dense"), None)
