"""The sampling settings that the files of a checkpoint suggest.

`generation_config.json` of a Hugging Face folder and the `general.sampling.*` keys of a GGUF file suggest
defaults. The caller decides whether to use them. A setting that cannot be used is left out, with a note.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SamplingDefaults = dict[str, float | int]
"""Fields of `GenerationOptions` with the values from the files; fields that no file sets are absent."""

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
"""The fields that files may set, each with a check of its value."""

GGUF_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
"""The field for each key under `general.sampling.` that is used."""

GGUF_SAMPLING_OTHERS: dict[str, tuple[Any, ...]] = {
    "sequence": (),
    "xtc_probability": (0,),
    "xtc_threshold": (0.1,),
    "penalty_last_n": (64, -1),
    "mirostat": (0,),
    "mirostat_tau": (5,),
    "mirostat_eta": (0.1,),
}
"""Keys that are not used, with the values that have no effect: llama.cpp's, and a penalty over all text."""

# transformers samples with these where a file asks for sampling and gives no values.
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
"""Keys of `generation_config.json` that are not applied, with the values that have no effect."""


def folder_sampling(folder: Path) -> tuple[SamplingDefaults, list[str]]:
    """Read the settings in `generation_config.json`.

    As in `transformers`, `do_sample: false` means greedy, whatever the other keys are. `do_sample: true`
    means temperature 1 and the 50 likeliest tokens where the file gives no values. Without `do_sample`, the
    file's values apply.

    Returns
    -------
    defaults
        The settings, by the names of `GenerationOptions`.
    notes
        One line for each setting of the file that is not applied.
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
        # An explicit null turns top-k off.
        found = {key: value for key, value in _SAMPLED.items() if key not in values} | found
    defaults, more = _usable(FILE, found, {field: field for field in _IN_RANGE})
    return defaults, notes + more


def gguf_sampling(settings: Mapping[str, Any]) -> tuple[SamplingDefaults, list[str]]:
    """Read the settings in the keys of a GGUF file that start with `general.sampling.`.

    Parameters
    ----------
    settings
        Values by full key.
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
        # In every convention, zero and negative values keep all tokens.
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
