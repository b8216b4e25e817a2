"""The tables of GGUF keys against the names that the `gguf` package knows, and what becomes of keys."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest
from raw_gguf import BOOL, array_key, key, small_llama, text_key

from shortlist.checkpoints import open_checkpoint
from shortlist.spec.families import FAMILIES
from shortlist.spec.gguf_keys import COMMON, GENERAL, TOKENIZER, is_foreign, keys_of
from shortlist.spec.keys import find


def names_of(holder: type) -> Iterator[str]:
    for value in vars(holder).values():
        if isinstance(value, str) and "." in value and not value.startswith("gguf."):
            yield value
        elif inspect.isclass(value):
            yield from names_of(value)


NAMES = sorted(set(names_of(gguf.Keys)))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_of_gguf_has_a_place(family: str):
    """It fails when gguf-py adds a key: say in the table what becomes of it."""
    assert len(NAMES) > 150
    for name in NAMES:
        spelled = name.replace("{id}", "0").replace("{name}", "tool").replace("{dense}", "dense_1")
        if spelled.startswith("{arch}."):
            assert find(keys_of(FAMILIES[family]), spelled.removeprefix("{arch}.")), name
        else:
            assert not is_foreign(spelled), name
            assert find(GENERAL | TOKENIZER, spelled), name


def test_windows_are_read_where_llama_cpp_reads_them():
    for name, family in FAMILIES.items():
        role = keys_of(family)["attention.sliding_window"].role
        expected = {"gemma3": "used", "gemma3n": "used", "olmo2": "refused"}
        assert role == expected.get(name, "harmless")


def test_a_beginning_stands_for_what_begins_so():
    assert find(GENERAL, "general.dataset.3.name") is GENERAL["general.dataset.*"]
    assert find(GENERAL, "general.sampling.temp") is GENERAL["general.sampling.temp"]
    assert find(GENERAL, "general.sampling.never") is GENERAL["general.sampling.*"]
    assert find(GENERAL, "general.never") is None
    assert find(COMMON, "ssm.conv_kernel") is COMMON["ssm.*"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("llama.never_heard_of", 1, "llama.never_heard_of is 1, a setting that is not known here"),
        ("general.never_heard_of", 1, "general.never_heard_of is 1, a setting that is not known here"),
        ("tokenizer.ggml.never_heard_of", 1, "tokenizer.ggml.never_heard_of is 1, a setting"),
        (
            "llama.attn_logit_softcapping",
            30.0,
            "llama.attn_logit_softcapping is 30.0, which is not supported",
        ),
        ("llama.final_logit_softcapping", 30.0, "llama.final_logit_softcapping is 30.0"),
        ("llama.attention.scale", 0.5, "llama.attention.scale is 0.5"),
        ("llama.logit_scale", 0.5, "llama.logit_scale is 0.5"),
        ("llama.embedding_scale", 12.0, "llama.embedding_scale is 12.0"),
        ("llama.residual_scale", 0.25, "llama.residual_scale is 0.25"),
        ("llama.expert_weights_scale", 2.5, "llama.expert_weights_scale is 2.5"),
        ("llama.expert_gating_func", 2, "llama.expert_gating_func is 2"),
        ("llama.expert_shared_feed_forward_length", 8, "llama.expert_shared_feed_forward_length is 8"),
        ("llama.ssm.conv_kernel", 4, "llama.ssm.conv_kernel is 4"),
        ("llama.rope.scaling.yarn_ext_factor", 0.5, "llama.rope.scaling.yarn_ext_factor is 0.5"),
        ("llama.rope.scaling.yarn_log_multiplier", 0.1, "yarn_log_multiplier is 0.1"),
        ("llama.nextn_predict_layers", 1, "llama.nextn_predict_layers is 1"),
        ("general.quantization_version", 1, "general.quantization_version is 1"),
        ("general.type", "adapter", "general.type is 'adapter', so it is no model"),
        ("general.type", "mmproj", "general.type is 'mmproj', so it is no model"),
        ("adapter.type", "lora", "adapter.type is 'lora'"),
        ("llama.attention.causal", False, "llama.attention.causal is False"),
    ],
)
def test_what_is_refused_is_named(tmp_path: Path, refused, name: str, value: Any, words: str):
    path = tmp_path / "m.gguf"
    path.write_bytes(small_llama(settings={name: spelled(name, value)}))
    refused(path, str(path), words)


def spelled(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return text_key(name, value)
    return key(name, BOOL, bytes([value])) if isinstance(value, bool) else value


def test_what_means_nothing_is_taken(tmp_path: Path):
    table = {f"llama.{name}": key for name, key in keys_of(FAMILIES["llama"]).items()} | GENERAL
    for name, entry in table.items():
        for value in entry.neutral if "*" not in name else ():
            path = tmp_path / "m.gguf"
            stated = spelled(name, float(value) if value == -1 else value)  # whole numbers are unsigned there
            path.write_bytes(small_llama(settings={name: stated}))
            open_checkpoint(path).close()


def test_an_array_that_nothing_knows_is_not_decoded(tmp_path: Path, refused):
    path = tmp_path / "m.gguf"
    name = "tokenizer.ggml.never_heard_of"
    path.write_bytes(small_llama(settings={name: array_key(name, BOOL, 9000, bytes(9000))}))
    refused(path, "never_heard_of is 'an array of 9000', a setting that is not known here")


def test_namespaces_that_nothing_reads_are_noted_once(tmp_path: Path):
    path = tmp_path / "m.gguf"
    ignored = {"foo.bar": 1, "foo.baz": 2, "qwen2.block_count": 3, "quantize.imatrix.chunks_count": 4}
    path.write_bytes(small_llama(settings={**ignored, "mradermacher.quantize_version": 2}))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.notes == (
            "keys that start with foo. are ignored, as llama.cpp does",
            "keys that start with qwen2. are ignored, as llama.cpp does",
        )
