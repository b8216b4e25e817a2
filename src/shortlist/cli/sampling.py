"""The sampling options of a chat: the user's, else those of the model's files, else llama.cpp's for chats."""

from collections.abc import Mapping
from typing import Any

from shortlist.engine.options import GenerationOptions

# Greedy answers of small models fall into loops.
CHAT_SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
SHOWN = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed")


def given_options(**options: Any) -> dict[str, Any]:
    """The options that were given, that is, are not None."""
    return {name: value for name, value in options.items() if value is not None}


def chat_options(suggested: Mapping[str, Any], given: Mapping[str, Any]) -> GenerationOptions:
    """The options of a chat.

    Parameters
    ----------
    suggested
        The settings of the model's files (`Model.sampling_defaults`). Without a temperature there, the usual
        sampling of chats completes them.
    given
        The user's options, which override both.
    """
    usual = {} if "temperature" in suggested else CHAT_SAMPLING
    return GenerationOptions(**{"max_tokens": None, **usual, **suggested, **given})


def describe_sampling(options: GenerationOptions, suggested: Mapping[str, Any]) -> str:
    """Describe the options and their origin in one line."""
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
