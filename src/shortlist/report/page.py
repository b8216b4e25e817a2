"""Writes a report's figures as one page that needs no network and no other file."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from shortlist.report import verdict as words
from shortlist.report.plots import bytes_figure, layers_figure, recall_figure, speed_figure

LEVELS = (0.01, 0.03, 0.1, 0.3)
"""Shares of the head's rows at which a token of the strip takes the next darker shade."""


def render(figures: dict[str, Any]) -> str:
    """Render the page as HTML. Strings from texts, models and recipes are escaped.

    Parameters
    ----------
    figures : dict
        The result of `measure`.
    """
    import jinja2
    from markupsafe import Markup

    style, script, source = map(_file, ("page.css", "page.js", "page.html.jinja"))
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.lstrip_blocks = True
    environment.filters.update(
        megabytes=words.megabytes,
        interval=words.interval,
        speed=words.speed,
        percent=_percent,
        visible=_visible,
    )
    plots = {"bytes": bytes_figure(figures["bytes"]["per_token"]), "speed": speed_figure(figures["speed"])}
    for table, methods in _recalls(figures).items():
        for wanted in methods[0]["found"]:
            plots[f"{table} {wanted}"] = recall_figure(table, methods, wanted)
    if figures["layers"] is not None:
        plots["layers"] = layers_figure(figures["layers"]["channels"])
    rows = figures["strip"]["rows"]
    levels = [sum(token["rows"] / rows >= level for level in LEVELS) for token in figures["strip"]["tokens"]]
    return environment.from_string(source).render(
        figures,
        verdict=words.verdict(figures),
        terms=words.terms([point["name"] for point in figures["speed"]["points"]]),
        plots={name: Markup(svg) for name, svg in plots.items()},
        levels=levels,
        limits=LEVELS,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _file(name: str) -> str:
    """Read a file from this module's folder."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _recalls(figures: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    recall = figures["recall"]
    return {table: recall[table]["methods"] for table in ("head", "ffn") if recall[table]}


def _percent(share: float, digits: int = 1, sign: bool = False) -> str:
    return f"{100 * share:{'+' if sign else ''}.{digits}f} %".replace("-", "−")


def _visible(text: str) -> str:
    """A readable form of a token, with visible spaces and line ends."""
    return text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
