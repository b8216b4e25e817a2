"""How the files of a checkpoint say that its texts should be sampled.

`generation_config.json` of a Hugging Face folder and the `general.sampling.*` keys of a GGUF file suggest
defaults. They are data here: who generates decides whether to use them. What cannot be used is left out, and
a note says so.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SamplingDefaults = dict[str, float | int]
"""Fields of `GenerationOptions` and what the files say of them; what they leave open is not in it."""

FILE = "generation_config.json"
_MAX_BYTES = 1 << 20


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


_IN_RANGE: dict[str, Callable[[Any], bool]] = {
    "temperature": lambda value: _number(value) and (value == 0 or 0.01 <= value <= 100),
    "top_k": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "top_p": lambda value: _number(value) and 0 < value <= 1,
    "min_p": lambda value: _number(value) and 0 <= value <= 1,
    "repetition_penalty": lambda value: _number(value) and 0.01 <= value <= 100,
}
"""The fields that files give, and which values of them an option may have."""

GGUF_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
"""Field for each key under `general.sampling.` that is used."""

GGUF_SAMPLING_OTHERS: dict[str, tuple[Any, ...]] = {
    "sequence": (),
    "xtc_probability": (0,),
    "xtc_threshold": (0.1,),
    "penalty_last_n": (64, -1),
    "mirostat": (0,),
    "mirostat_tau": (5,),
    "mirostat_eta": (0.1,),
}
"""The keys that are not, with the values that say nothing: llama.cpp's, and a penalty over all text."""

# transformers samples with these where a file asks for sampling and says no more.
_SAMPLED = {"temperature": 1.0, "top_k": 50}

UNUSED: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "typical_p": (1,),
    "top_h": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "encoder_repetition_penalty": (1,),
    "encoder_no_repeat_ngram_size": (0,),
    "no_repeat_ngram_size": (0,),
    "length_penalty": (1,),
    "exponential_decay_length_penalty": (),
    "bad_words_ids": ([],),
    "force_words_ids": ([],),
    "constraints": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "sequence_bias": ([], {}),
    "token_healing": (False,),
    "guidance_scale": (1,),
    "watermarking_config": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "stop_strings": ([], ""),
    "max_time": (),
    "remove_invalid_values": (False,),
    "renormalize_logits": (False,),
}
"""Keys of `generation_config.json` that are not applied, with the values that change no text anyway."""


def folder_sampling(folder: Path) -> tuple[SamplingDefaults, list[str]]:
    """What `generation_config.json` suggests.

    `do_sample: false` is greedy, whatever stands beside it, as in `transformers`; `do_sample: true` samples
    with temperature 1 and the 50 likeliest tokens where the file says no more. A file that does not say
    `do_sample` is taken at its numbers.

    Returns
    -------
    defaults
        By the names of `GenerationOptions`.
    notes
        One line for each thing in the file that is not applied.
    """
    file = folder / FILE
    if not file.is_file():
        return {}, []
    values = _read(file)
    if values is None:
        return {}, [f"{FILE} is not a JSON object and is ignored: fetch it again"]
    stated = {key: value for key, value in values.items() if value is not None}
    notes = _notes(FILE, stated, UNUSED)
    sampled = stated.get("do_sample")
    if sampled is False:
        return {"temperature": 0.0}, notes
    found = {field: stated[field] for field in _IN_RANGE if field in stated}
    if sampled:
        # An explicit null turns the cut off.
        found = {key: value for key, value in _SAMPLED.items() if key not in values} | found
    defaults, more = _usable(FILE, found, {field: field for field in _IN_RANGE})
    return defaults, notes + more


def gguf_sampling(settings: Mapping[str, Any]) -> tuple[SamplingDefaults, list[str]]:
    """The same from the keys of a GGUF file that start with `general.sampling.`.

    Parameters
    ----------
    settings
        Values by whole key.
    """
    prefix = "general.sampling."
    stated = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
    found = {GGUF_SAMPLING[key]: value for key, value in stated.items() if key in GGUF_SAMPLING}
    names = {field: prefix + key for key, field in GGUF_SAMPLING.items()}
    defaults, notes = _usable("", found, names)
    others = {prefix + key: values for key, values in GGUF_SAMPLING_OTHERS.items()}
    rest = {prefix + key: value for key, value in stated.items() if key not in GGUF_SAMPLING}
    unknown = {key: () for key in rest if key not in others}
    return defaults, notes + _notes("the file", rest, others | unknown)


def _usable(
    file: str, found: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[SamplingDefaults, list[str]]:
    defaults: SamplingDefaults = {}
    notes = []
    for field, value in found.items():
        # Everything at or below zero keeps all tokens, wherever a file takes its custom from.
        value = 0 if field == "top_k" and type(value) is int and value < 0 else value
        if _IN_RANGE[field](value):
            defaults[field] = value
        else:
            where = f"{file}: " if file else ""
            notes.append(f"{where}{names[field]} is {value!r:.40}, which is out of range: it is left out")
    return defaults, notes


def _notes(file: str, stated: Mapping[str, Any], unused: Mapping[str, tuple[Any, ...]]) -> list[str]:
    return [
        f"{file} asks for {key} {stated[key]!r:.40}, which is not applied"
        for key, neutral in unused.items()
        if key in stated and not any(stated[key] == value for value in neutral)
    ]


def _read(file: Path) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > _MAX_BYTES:
            return None
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
