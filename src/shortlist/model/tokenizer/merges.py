"""Builds the tokenizer of a folder that has `vocab.json` and `merges.txt`, but no `tokenizer.json`.

These files do not say how a text is cut into words: the rule belongs to the class of the tokenizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, processors

from shortlist.errors import CheckpointError
from shortlist.model.tokenizer.pre_tokenizers import PRE_TOKENIZERS

_WRITE_ONE = (
    "write tokenizer.json with transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
)


@dataclass(frozen=True)
class ClassRules:
    """The fixed settings of a tokenizer class: rules, by their names in GGUF files, and special tokens."""

    pre: str
    names: Mapping[str, str]


_END = "<|endoftext|>"
_GPT2 = ClassRules("gpt-2", {"bos_token": _END, "eos_token": _END, "unk_token": _END})
_QWEN2 = ClassRules("qwen2", {"eos_token": _END, "unk_token": _END, "pad_token": _END})
_CLASSES = {"GPT2Tokenizer": _GPT2, "Qwen2Tokenizer": _QWEN2}
_OF_MODELS: dict[str, ClassRules] = dict.fromkeys(("qwen2", "qwen3", "qwen2_moe", "qwen3_moe"), _QWEN2)
"""The tokenizer class of models whose tokenizer_config.json names none."""


def class_rules(folder: Path, config: Mapping[str, Any], model: Mapping[str, Any]) -> ClassRules:
    """The rules of the class in `tokenizer_config.json`, or of the model's own class.

    Raises
    ------
    CheckpointError
        The rules of the class are not known.
    """
    name = config.get("tokenizer_class")
    if name is None and (found := _OF_MODELS.get(str(model.get("model_type")))):
        return found
    if isinstance(name, str) and (found := _CLASSES.get(name.removesuffix("Fast"))):
        return found
    raise CheckpointError(
        f"{folder} has vocab.json and merges.txt but no tokenizer.json, and the rules of its tokenizer_class "
        f"{name!r:.60} are not known here: {_WRITE_ONE}"
    )


def build_backend(
    folder: Path, rules: ClassRules, config: Mapping[str, Any], vocabulary: Mapping[str, Any], merges: str
) -> Backend:
    """Make the tokenizer of a class from a vocabulary and the text of `merges.txt`.

    Parameters
    ----------
    folder
        Folder of the model, for messages.
    rules
        The rules of the class.
    config
        Contents of `tokenizer_config.json`, with special tokens as their texts.
    vocabulary
        Ids by token.
    merges

    Raises
    ------
    CheckpointError
        The files contradict each other, or a setting is not supported.
    """
    if config.get("add_prefix_space"):
        raise CheckpointError(
            f"{folder}/tokenizer_config.json: add_prefix_space is not supported without tokenizer.json: "
            f"{_WRITE_ONE}"
        )
    pairs = _pairs(folder, vocabulary, merges)
    backend = Backend(models.BPE(vocab=dict(vocabulary), merges=pairs))
    known = PRE_TOKENIZERS[rules.pre]
    if known.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = known.cut()
    backend.decoder = decoders.ByteLevel()
    around = {"bos_token": config.get("add_bos_token"), "eos_token": config.get("add_eos_token")}
    tokens = {name: str(config.get(name)) for name, wanted in around.items() if wanted}
    for name, token in tokens.items():
        if token not in vocabulary:
            raise CheckpointError(
                f"{folder}/tokenizer_config.json puts {name} around texts, which is {token!r:.40} and not in "
                f"vocab.json: {_WRITE_ONE}"
            )
    bos, eos = tokens.get("bos_token"), tokens.get("eos_token")
    if tokens:
        backend.post_processor = processors.TemplateProcessing(
            single=[each for each in (bos, "$A", eos) if each],
            special_tokens=[(token, vocabulary[token]) for token in dict.fromkeys(tokens.values())],
        )
    return backend


def _pairs(folder: Path, vocabulary: Mapping[str, Any], merges: str) -> list[tuple[str, str]]:
    ids = list(vocabulary.values())
    if not ids or sorted(i for i in ids if type(i) is int) != list(range(len(ids))):
        raise CheckpointError(
            f"{folder}/vocab.json does not number its {len(ids)} tokens from 0 on: fetch it again"
        )
    pairs = []
    for line in merges.split("\n"):
        line = line.removesuffix("\r")
        if not line or line.startswith("#version"):
            continue
        first, _, second = line.partition(" ")
        if not second or any(part not in vocabulary for part in (first, second, first + second)):
            raise CheckpointError(
                f"{folder}/merges.txt has the line {line!r:.40}, which is no pair of tokens of vocab.json: "
                "fetch both again"
            )
        pairs.append((first, second))
    return pairs
