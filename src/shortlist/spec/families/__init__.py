"""The model families: one file each, which holds what is particular to it.

One decoder runs all of them. To add one, write its file and name it here (docs/add-a-family.md).
"""

from shortlist.spec.families import (
    arcee,
    gemma3,
    gemma3n,
    granite,
    llama,
    mistral,
    mixtral,
    olmo2,
    olmoe,
    phi3,
    qwen2,
    qwen2_moe,
    qwen3,
    qwen3_moe,
    smollm3,
)
from shortlist.spec.families.base import Family

# Files of mistral carry the GGUF architecture of llama, so `llama` is what a GGUF file of it is called here.
_MODULES = (
    llama,
    mistral,
    arcee,
    olmo2,
    granite,
    smollm3,
    phi3,
    qwen2,
    qwen3,
    gemma3,
    gemma3n,
    mixtral,
    qwen2_moe,
    qwen3_moe,
    olmoe,
)
FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}
