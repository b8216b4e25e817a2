"""How a chat samples: what was asked for, else what the model's files say, else what llama.cpp's chats do."""

from collections.abc import Mapping
from typing import Any

from shortlist.engine.options import GenerationOptions

# Greedy answers of small models end in loops.
CHAT_SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
SHOWN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


def given_options(**options: Any) -> dict[str, Any]:
    """Those that were given: not None."""
    return {name: value for name, value in options.items() if value is not None}


def chat_options(suggested: Mapping[str, Any], given: Mapping[str, Any]) -> GenerationOptions:
    """The options of a chat.

    Parameters
    ----------
    suggested
        What the model's files say (`Model.sampling_defaults`). Where they say no temperature, the usual
        sampling of chats fills in what they leave open.
    given
        What the user said, which comes before both.
    """
    usual = {} if "temperature" in suggested else CHAT_SAMPLING
    return GenerationOptions(**{"max_tokens": None, **usual, **suggested, **given})


def describe_sampling(options: GenerationOptions, suggested: Mapping[str, Any]) -> str:
    """One line for people: what is used, and where it comes from."""
    if options.greedy:
        return "sampling: none, always the likeliest token"
    usual = GenerationOptions()
    used = [
        f"{name.replace('_', ' ')} {getattr(options, name)}"
        for name in SHOWN
        if getattr(options, name) != getattr(usual, name)
    ]
    source = "the model's files say so" if "temperature" in suggested else "the model's files say nothing"
    return f"sampling: {', '.join(used)} ({source}; options override)"
