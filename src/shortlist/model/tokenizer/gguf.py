"""Builds a tokenizer from the `tokenizer.*` metadata of a GGUF file.

The metadata holds the vocabulary and the names of rules. llama.cpp defines the rules; where it only
approximates the tokenizer that the model was trained with, the model's tokenizer decides.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from tokenizers import AddedToken, decoders, normalizers

from shortlist import _native
from shortlist.errors import CheckpointError
from shortlist.model.tokenizer.compact_backend import CompactBackend
from shortlist.model.tokenizer.parts import FILL_IN_ENDS, TokenizerParts, find_ends
from shortlist.model.tokenizer.pre_tokenizers import PRE_TOKENIZERS, Rules

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4

_NAMES = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # the format's own spelling
    "pad_token": "padding_token_id",
    "mask_token": "mask_token_id",
}
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")
_SPM_DEFAULTS = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}


def read_gguf(metadata: Mapping[str, Any], name: str) -> TokenizerParts:
    """Build the tokenizer from GGUF metadata.

    Parameters
    ----------
    metadata
        The pairs whose keys start with `tokenizer.`: `_native.Strings` or lists of str, arrays or lists of
        numbers, and scalars.
    name
        Name of the checkpoint, for messages.

    Raises
    ------
    CheckpointError
        The metadata is incomplete, contradicts itself, or names rules that are not supported.
    """
    keys = _Keys(metadata, name)
    match keys.get("model"):
        case "gpt2":
            backend = _byte_level(keys, keys.rules())
        case "llama":
            backend = _sentencepiece(keys)
        case other:
            keys.fail(
                f"is of the kind {other!r:.80}, which is not supported; "
                "supported are gpt2 (byte-level BPE) and llama (SentencePiece BPE)"
            )
    templates = {
        key.removeprefix("tokenizer.chat_template").removeprefix("."): value
        for key, value in metadata.items()
        if key == "tokenizer.chat_template" or key.startswith("tokenizer.chat_template.")
    }
    if not all(isinstance(template, str) for template in templates.values()):
        keys.fail("has a chat template that is not text: fetch the file again, or convert it again")
    template = templates.pop("", None)
    return TokenizerParts(
        backend,
        size=len(keys.tokens),
        bos_id=keys.token_id("bos_token_id"),
        eos_ids=frozenset(keys.ends),
        names={name: token for name, key in _NAMES.items() if (token := keys.token(key)) is not None},
        chat_template=templates.pop("default", None) if template is None else template,
        named_templates=templates,
        notes=tuple(keys.notes),
    )


def _byte_level(keys: "_Keys", rules: Rules) -> CompactBackend:
    try:
        bpe = _native.Bpe.from_merges(keys.vocabulary, keys.strings("merges"), rules.whole_words)
    except ValueError:
        keys.fail("has merges of what is not in its vocabulary: fetch the file again, or convert it again")
    return CompactBackend(
        keys.tokens,
        bpe,
        keys.matched_whole(),
        normalizer=normalizers.NFC() if rules.composes else None,
        pre_tokenizer=rules.cut(),
        decoder=decoders.ByteLevel(),
        around=keys.around_texts(rules.starts_with_bos),
    )


def _sentencepiece(keys: "_Keys") -> CompactBackend:
    prefixes_space = bool(keys.get("add_space_prefix", True))
    scores = np.where(keys.types == _NORMAL, keys.numbers("scores"), -np.inf).astype(np.float32)
    unknown = keys.token_id("unknown_token_id")
    in_front = [normalizers.Prepend("▁")] if prefixes_space else []
    off_again = [decoders.Strip(" ", 1, 0)] if prefixes_space else []
    return CompactBackend(
        keys.tokens,
        _native.Bpe.from_scores(keys.vocabulary, scores, -1 if unknown is None else unknown),
        keys.matched_whole(respell_spaces=not prefixes_space),
        normalizer=normalizers.Sequence([*in_front, normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *off_again]
        ),
        around=keys.around_texts(starts_with_bos=True),
    )


class _Keys:
    """The `tokenizer.ggml.*` keys of one file, read with checks."""

    def __init__(self, metadata: Mapping[str, Any], name: str):
        self.metadata = metadata
        self.name = name
        self.tokens = self.strings("tokens")
        self.notes: dict[str, None] = {}  # without repetition, in order
        self.vocabulary = _native.Vocabulary(self.tokens)
        if (empty := self.find("")) is not None:
            self.note(f"token {empty} is empty")
        if repeated := self.vocabulary.repeated:
            self.note(f"{repeated} tokens are equal to later ones, which texts become instead")
        self.types = self.token_types()
        self.ends = find_ends(self.find, self.is_control, {key: self.token_id(key) for key in FILL_IN_ENDS})
        self.ends |= {i for key in _END_KEYS if (i := self.token_id(key)) is not None}
        # As in llama.cpp: converters have marked some of these tokens as ordinary text.
        self.types[list(self.ends)] = _CONTROL

    def fail(self, why: str) -> NoReturn:
        raise CheckpointError(f"the tokenizer of {self.name} {why}")

    def note(self, what: str) -> None:
        self.notes[f"the tokenizer of the file: {what}"] = None

    def get(self, key: str, default: Any = None) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{key}", default)

    def find(self, token: str) -> int | None:
        """The id of a token, if it is in the vocabulary."""
        found = self.vocabulary.find(token)
        return found if found >= 0 else None

    def is_control(self, token: int) -> bool:
        return self.types[token] == _CONTROL

    def fail_list(self, key: str) -> NoReturn:
        self.fail(f"has no usable list tokenizer.ggml.{key}: fetch the file again, or convert it again")

    def strings(self, key: str) -> _native.Strings:
        values = self.get(key)
        if isinstance(values, list) and values and isinstance(values[0], str):
            values = _native.Strings(values)
        if not isinstance(values, _native.Strings) or not len(values):
            self.fail_list(key)
        return values

    def numbers(self, key: str) -> np.ndarray:
        """Read an array with one number for each token."""
        values = np.asarray(self.get(key))
        if values.dtype.kind not in "iuf" or values.ndim != 1:
            self.fail_list(key)
        if len(values) < len(self.tokens):
            self.fail(f"has {len(self.tokens)} tokens, but {len(values)} {key}")
        if len(values) > len(self.tokens):
            self.note(f"there are {len(self.tokens)} tokens, but {len(values)} {key}; the rest is ignored")
        return values[: len(self.tokens)]

    def token_types(self) -> np.ndarray:
        listed = self.get("token_type") is not None
        types = self.numbers("token_type").copy() if listed else np.full(len(self.tokens), _NORMAL)
        if (bos := self.token_id("bos_token_id")) is not None:
            types[bos] = _CONTROL
        return types

    def matched_whole(self, respell_spaces: bool = False) -> dict[int, AddedToken]:
        """The tokens that are matched whole, before all other rules, by id.

        With `respell_spaces`, spaces in user-defined tokens are written as U+2581, as in the rest of the
        vocabulary; converters replace it by plain spaces. Runs of spaces are such tokens. With U+2581 they
        are matched after the spaces of the text are replaced, as in the model's own tokenizer, so that a text
        with U+2581 gives the same tokens. Vocabularies that put a space before texts must not respell: the
        space would also be put before these tokens.
        """
        special = np.flatnonzero((self.types == _CONTROL) | (self.types == _UNKNOWN)).tolist()
        found = {i: AddedToken(self.tokens[i], special=True, normalized=False) for i in special}
        for i in np.flatnonzero(self.types == _USER_DEFINED).tolist():
            token = self.tokens[i].replace(" ", "▁") if respell_spaces else self.tokens[i]
            found[i] = AddedToken(token, normalized=respell_spaces and "▁" in token)
        return found

    def token_id(self, key: str) -> int | None:
        """The id of a special token; an id out of range counts as absent, as in llama.cpp."""
        default = _SPM_DEFAULTS.get(key) if self.get("model") == "llama" else None
        default = default if default is not None and default < len(self.tokens) else None
        value = self.get(key, default)
        if value is None or (type(value) is int and 0 <= value < len(self.tokens)):
            return value
        if type(value) is not int:
            self.fail(f"says that {key} is {value!r:.80}, which is no token")
        instead = "no token" if default is None else f"token {default}"
        self.note(f"{key} is {value}, beyond the {len(self.tokens)} tokens: {instead} is used")
        return default

    def token(self, key: str) -> str | None:
        token = self.token_id(key)
        return None if token is None else self.tokens[token]

    def around_texts(self, starts_with_bos: bool) -> tuple[list[int], list[int]]:
        """The tokens at the start and end of a text; `starts_with_bos` is the default."""
        return (
            self.wanted("add_bos_token", "bos_token_id", starts_with_bos),
            self.wanted("add_eos_token", "eos_token_id", False),
        )

    def wanted(self, flag: str, key: str, default: bool) -> list[int]:
        if not self.get(flag, default):
            return []
        if (token := self.token_id(key)) is None:
            self.fail(f"is to use a {key}, but names none")
        return [token]

    def rules(self) -> Rules:
        pre = self.get("pre", "default")
        if pre not in PRE_TOKENIZERS:
            supported = ", ".join(PRE_TOKENIZERS)
            self.fail(f"has the pre-tokenizer {pre!r:.80}, which is not supported; supported are {supported}")
        return PRE_TOKENIZERS[pre]
