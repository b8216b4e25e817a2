"""Write docs/reach.md: how every pair of estimator and selector runs at every kind of site.

python scripts/reach_table.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shortlist.estimators import ESTIMATORS
from shortlist.selectors import SELECTORS
from shortlist.sites.base import SITES, Reach
from shortlist.sites.neurons import FIRES

PAGE = Path(__file__).parents[1] / "docs" / "reach.md"
OPTIONS: dict[str, dict[str, Any]] = {
    "grouped_top_k": {"count": 1},
    "mixed_width": {"ranks": (32,)},
    "score_mass": {"mass": 0.5},
    "statistical_top_k": {"keep": 0.5},
    "threshold": {"threshold": FIRES},
    "top_k": {"count": 1},
    "two_stage_top_k": {"count": 1},
}
"""Options that have no defaults. A threshold is what a neuron reaches that fires."""

HEAD = """# What runs where

Which estimator runs with which selector at which [site](architecture.md). `python scripts/reach_table.py`
writes this page from the code, and a test compares them. A recipe with a refused pair is refused when it is
written.

| cell | meaning |
| --- | --- |
| native | a kernel scores the units, and native code selects |
| Python | the method's Python lines run between two passes of the decoder: correct, and slower |
| a number | refused, for the reason of this number below the table |
"""


def reaches(kind: str) -> dict[tuple[str, str], Reach]:
    """How each pair of estimator and selector runs at sites of a kind."""
    return {
        (estimator, selector): SITES[kind].reach(
            ESTIMATORS[estimator](**OPTIONS.get(estimator, {})),
            SELECTORS[selector](**OPTIONS.get(selector, {})),
        )
        for estimator in ESTIMATORS
        for selector in SELECTORS
    }


def page() -> str:
    """The whole page."""
    kinds: dict[type, list[str]] = {}
    for kind, site in SITES.items():
        kinds.setdefault(site, []).append(kind)
    return "\n".join([HEAD, *(_section(names) for names in kinds.values())])


def _section(kinds: list[str]) -> str:
    reasons: list[str] = []
    found = reaches(kinds[0])

    def cell(estimator: str, selector: str) -> str:
        reach = found[estimator, selector]
        if reach.reason is None:
            return "native" if reach.how == "natively" else "Python"
        reason = reach.reason.replace(f"{estimator} with {selector}", "this pair")
        reason = reason.replace(f"which {estimator} does", "which the estimator does")
        if reason not in reasons:
            reasons.append(reason)
        return str(reasons.index(reason) + 1)

    rows = [[estimator, *(cell(estimator, selector) for selector in SELECTORS)] for estimator in ESTIMATORS]
    lines = ["| estimator | " + " | ".join(SELECTORS) + " |", "| --- |" + " --- |" * len(SELECTORS)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    runs = sum(reach.reason is None for reach in found.values())
    natively = sum(reach.how == "natively" for reach in found.values())
    title = ", ".join(f"`{kind}`" for kind in kinds)
    text = [f"## {title}", "", f"Pairs that run: {runs}, natively {natively}.", "", *lines, ""]
    text += [f"{number}. {reason[0].upper()}{reason[1:]}." for number, reason in enumerate(reasons, 1)]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
