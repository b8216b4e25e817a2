"""Refuses options that would have no effect, so that nobody believes that they had one."""

from collections.abc import Mapping
from typing import Any

from shortlist.engine.options import LEAST_TEMPERATURE, GenerationOptions
from shortlist.errors import UsageError

GREEDY = "at temperature 0, which always takes the likeliest token: give --temperature, such as 0.8, too"


def refuse_unused(option: str, useless: bool, why: str) -> None:
    """Raise `UsageError` for an option without effect.

    Parameters
    ----------
    option
        The option as it is spelled, `--seed`.
    useless
        Whether it was given and has no effect.
    why
        The reason and the next step, after "does nothing".
    """
    if useless:
        raise UsageError(f"{option} does nothing {why}")


def refuse_unused_sampling(given: Mapping[str, Any], options: GenerationOptions) -> None:
    """Raise `UsageError` for sampling options where decoding is greedy.

    Parameters
    ----------
    given
        The options that were given, by the names of their fields.
    options
        The resulting options.
    """
    neutral = {"top_k": 0, "top_p": 1, "min_p": 0, "seed": None}
    for name, value in neutral.items():
        useless = options.temperature < LEAST_TEMPERATURE and name in given and given[name] != value
        refuse_unused(f"--{name.replace('_', '-')}", useless, GREEDY)
