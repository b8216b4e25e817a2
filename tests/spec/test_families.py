"""The name maps against those of the `gguf` library, which converts every one of these families."""

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shortlist.spec.families import FAMILIES
from shortlist.spec.families.base import Family
from shortlist.spec.tensor_names import (
    GGUF_LAYER_NAMES,
    HF_LAYER_NAMES,
    HF_NAMES,
    canonical_gguf_name,
    canonical_hf_name,
)

LAYER = 7


def hf_names(family: Family) -> list[str]:
    """What `transformers` calls the tensors of a family: those outside the layers, and those of one layer."""
    in_layer = HF_LAYER_NAMES.keys() | {f"{name}.weight" for name, _ in family.hf_layer_names}
    names = [*HF_NAMES, *(f"model.layers.{LAYER}.{name}" for name in in_layer)]
    wanted = {"embedding", "head", "final_norm"}
    wanted |= {f"layers.{LAYER}.{name}" for name in layer_tensors(family)}
    return [name for name in names if canonical_hf_name(name, family) in wanted]


def layer_tensors(family: Family) -> tuple[str, ...]:
    """What every layer has in files: in llama.cpp all layers of a family with experts are mixtures."""
    parts = [part for each in family.fused.values() for part in each]
    names = family.mixture_tensors if family.experts else family.layer_tensors
    return (*(name for name in names if name not in parts), *family.fused)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_both_maps_lead_to_the_same_names(family: Family):
    architecture = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[family.gguf_architecture]
    theirs = gguf.get_tensor_name_map(architecture, LAYER + 1)
    names = hf_names(family)
    assert len(names) == 3 + len(layer_tensors(family))
    for name in names:
        converted = f"{name}.weight" if name.endswith("_scale") else name
        in_gguf = theirs.get_name(converted, try_suffixes=(".weight", ".bias"))
        assert in_gguf is not None
        assert canonical_gguf_name(in_gguf, family) == canonical_hf_name(name, family)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_no_two_tensors_get_one_name(family: Family):
    own = dict(family.hf_layer_names)
    in_layer = [own.get(name.removesuffix(".weight"), ours) for name, ours in HF_LAYER_NAMES.items()]
    in_layer += [ours for name, ours in own.items() if f"{name}.weight" not in HF_LAYER_NAMES]
    assert len(set(in_layer)) == len(in_layer)


def test_gguf_architectures_and_model_types_are_known_to_gguf_and_transformers():
    from transformers import AutoConfig

    for family in FAMILIES.values():
        assert family.gguf_architecture in gguf.MODEL_ARCH_NAMES.values()
        assert AutoConfig.for_model(family.hf_model_type).model_type == family.hf_model_type


@pytest.mark.parametrize(
    "name",
    [
        "blk.0.ffn_gate_exps.bias",
        "blk.0.ffn_gate.{}.weight",
        "blk.0.ffn_gate.007.weight",
        "blk.0.attn_q.weight.lora_a",
        "blk..attn_q.weight",
        "blk.٣.attn_q.weight",
        "blk.00.attn_q.weight",
        "blk.-1.attn_q.weight",
        "blk.9999999999.attn_q.weight",
        "blk.0",
        "",
        "v.patch_embd",
    ],
)
def test_foreign_names_have_no_place(name: str):
    assert all(canonical_gguf_name(name, family) is None for family in FAMILIES.values())


@given(st.text(max_size=20), st.sampled_from(list(GGUF_LAYER_NAMES)))
def test_a_layer_is_named_by_its_number_alone(index: str, suffix: str):
    found = canonical_gguf_name(f"blk.{index}.{suffix}", FAMILIES["llama"])
    is_number = index.isascii() and index.isdigit() and len(index) < 10 and str(int(index)) == index
    assert found == (f"layers.{index}.{GGUF_LAYER_NAMES[suffix]}" if is_number else None)
