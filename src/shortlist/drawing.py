"""The style of figures: colours for colour-blind readers (Okabe and Ito, 2008), each with its own shape.

Text and axes take the colour of the page's text, so that figures follow light, dark and printed pages.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from shortlist.errors import ShortlistError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

INK = "#010203"  # stands for the colour of the page's text until a figure is written
SIZE = (4.8, 4.0)  # inches; a phone shows about 4, so that text keeps its size there


class Look(NamedTuple):
    """The colour, shape and line of one series."""

    colour: str
    marker: str
    line: str = "-"


LOOKS = {
    "low_rank": Look("#0072B2", "o"),
    "quantized": Look("#D55E00", "s"),
    "codebook": Look("#009E73", "^"),
    "shared_codebook": Look("#009E73", "<", "-."),
    "sketch": Look("#CC79A7", "D", "--"),
    "low_rank_sparse": Look("#56B4E9", "v"),
    "mixed_width": Look("#E69F00", "P"),
    "neighbour": Look("#999999", "X"),
    "gate": Look("#E69F00", "d"),
    "exact": Look(INK, "*"),
    "random": Look(INK, "", ":"),
}
"""By estimator."""

PART_LOOKS = {"attention": ("#56B4E9", ""), "feed-forward": ("#E69F00", "////"), "head": ("#009E73", "....")}
"""Colour and hatch of the parts of a model."""

LINES = (
    Look("#0072B2", "o", "-"),
    Look("#D55E00", "s", "--"),
    Look("#009E73", "^", "-."),
    Look("#CC79A7", "D", ":"),
)

SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, read aloud, and scales with the page
    "text.parse_math": False,  # names are not formulas
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 6,
    "lines.linewidth": 1.5,
    "hatch.linewidth": 0.6,
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
    ),
}


def check_installed() -> None:
    """Raise `ShortlistError` where the library that draws is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ShortlistError(
            "a report is drawn with matplotlib, which is not installed: pip install 'shortlist[report]'"
        ) from None


@contextmanager
def settings(name: str) -> Iterator[None]:
    """Matplotlib's settings while one figure is made; its name keeps ids apart from those of others."""
    import matplotlib

    with matplotlib.rc_context({**SETTINGS, "svg.hashsalt": name}):
        yield


def to_svg(figure: Figure, label: str) -> str:
    """A figure as an SVG element that fills its place in a page and names no other resource.

    `label` says what it shows to who cannot see it; the page has the figures as a table, too.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(
        r' id="[a-z]+\d*_\d+"', "", svg
    )  # of groups: nothing refers to them, and figures repeat them
    return svg.replace(INK, "currentColor").replace(
        "<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1
    )
