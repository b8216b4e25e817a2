"""Load a model for a command: `--exact` against `--head`, and what the user should know about the choice."""

import sys
from typing import TYPE_CHECKING, Any

from shortlist.errors import UsageError

if TYPE_CHECKING:
    from shortlist.engine.choose_head import HeadName
    from shortlist.engine.model import Model


def load_model(name: str, *, head: "HeadName", exact: bool, **options: Any) -> "Model":
    """`shortlist.load` with the options of a command; notes go to standard error.

    Raises
    ------
    UsageError
        `--exact` and another `--head` were given together.
    """
    if exact and head not in ("auto", "exact"):
        raise UsageError(f"--exact and --head {head} contradict each other: give one of them")
    from shortlist.engine.load import load

    model = load(name, head="exact" if exact else head, **options)
    for note in model.notes:
        print(f"shortlist: {note}", file=sys.stderr)
    return model
