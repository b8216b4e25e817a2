"""Writes docs/keys.md, what becomes of each setting of a checkpoint, from the tables in the code."""

import sys
from collections.abc import Mapping
from pathlib import Path

from shortlist.spec import gguf_keys, hf_keys
from shortlist.spec.families import FAMILIES
from shortlist.spec.keys import Key

PAGE = Path(__file__).parents[1] / "docs" / "keys.md"

INTRODUCTION = """# Settings of checkpoints

What becomes of every setting that a checkpoint may state:

- **used**: the model is computed by it, as the family's class in transformers or llama.cpp computes it;
- **harmless**: it changes nothing here;
- **refused**: it would, so opening the model fails in one line that names it, unless it has one of the values
  in brackets, which mean nothing. Null means nothing everywhere.

A setting in no table is refused by name. This page is written by `python scripts/key_tables.py` from the
tables in `src/shortlist/spec`, and a test compares them with transformers and gguf-py.

What `generation_config.json` and `general.sampling.*` suggest is in `model.sampling_defaults`; what of it is
not applied is among `model.warnings`.
"""


def table(keys: Mapping[str, Key]) -> str:
    """A Markdown table of keys; those that share all else share a line."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for name, key in keys.items():
        default = "" if key.default is None else f"`{key.default}`"
        role = key.role + (f" ({', '.join(f'`{each}`' for each in key.neutral)})" if key.neutral else "")
        rows.setdefault((role, default, key.why), []).append(f"`{name}`")
    lines = [f"| {', '.join(names)} | {' | '.join(rest)} |" for rest, names in rows.items()]
    return "\n".join(["| key | | default | |", "| --- | --- | --- | --- |", *lines, ""])


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## config.json, every family\n", table(hf_keys.BASE)]
    for name, family in FAMILIES.items():
        parts += [f"## config.json, {name}\n", table(family.hf_keys)]
    parts += ["## config.json of models that also see or hear\n", table(hf_keys.WRAPPER)]
    parts += ["## rope_scaling and rope_parameters\n", table(hf_keys.ROPE_BASE)]
    for kind, keys in hf_keys.ROPE.items():
        if keys:
            parts += [f"### {kind}\n", table(keys)]
    parts += ["## GGUF, beside the architecture\n", table(gguf_keys.GENERAL)]
    parts += ["Keys of other namespaces are ignored, as in llama.cpp, and a warning says so.\n"]
    parts += ["## GGUF, the tokenizer\n", table(gguf_keys.TOKENIZER)]
    parts += ["## GGUF, every architecture\n", "The architecture stands in front: `llama.context_length`.\n"]
    parts.append(table(gguf_keys.COMMON))
    for name, family in FAMILIES.items():
        own = {key: value for key, value in gguf_keys.keys_of(family).items() if key not in gguf_keys.COMMON}
        parts += [f"## GGUF, {name}\n", table(own)]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
