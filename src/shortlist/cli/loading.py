"""Load a model for a command: `--exact` against `--head`, and once per model what fitting it would gain."""

import sys
from typing import TYPE_CHECKING, Any

from shortlist.cli.terminal import note
from shortlist.errors import UsageError

if TYPE_CHECKING:
    from shortlist.engine.choose_head import HeadName
    from shortlist.engine.model import Model

WORTH_A_HINT = 1.1
"""Times as fast that a model must become by fitting."""


def load_model(name: str, *, head: "HeadName", exact: bool, hint: bool = False, **options: Any) -> "Model":
    """`shortlist.load` with the options of a command; the model's warnings go to standard error.

    Parameters
    ----------
    hint
        Say on standard error, where that is a terminal and the first time only, that fitting would make this
        model faster.

    Raises
    ------
    UsageError
        `--exact` and another `--head` were given together.
    """
    if exact and head not in ("auto", "exact"):
        raise UsageError(f"--exact and --head {head} contradict each other: give one of them")
    from shortlist.engine.load import load

    model = load(name, head="exact" if exact else head, **options)
    for warning in model.warnings:
        note(warning)
    if hint and not exact and head == "auto" and model.recipe is None and sys.stderr.isatty():
        _hint(name, model)
    return model


def _hint(name: str, model: "Model") -> None:
    """One line, unless the cache folder remembers that it was said of this model."""
    from shortlist.engine.choose_head import gain_of_fitting
    from shortlist.paths import cache_folder

    gain = gain_of_fitting(model.decoder, model.head)
    said = cache_folder() / "hints" / model.decoder.fingerprint
    if gain < WORTH_A_HINT or said.exists():
        return
    try:
        said.parent.mkdir(parents=True, exist_ok=True)
        said.touch()
    except OSError:  # where nothing can be remembered, it would be said every time
        return
    note(
        f"hint: shortlist fit {name} takes about a minute, and this model then writes "
        f"about {gain:.1f} times as fast, a text that may differ a little"
    )
