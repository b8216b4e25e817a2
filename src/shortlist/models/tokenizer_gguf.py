"""Builds a tokenizer from the `tokenizer.*` metadata of a GGUF file.

The metadata holds the vocabulary and the names of the rules. What these mean is up to llama.cpp, and where
that only approximates the tokenizer that the model was trained with, up to the latter.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as Backend

from shortlist.errors import CheckpointError
from shortlist.models.pre_tokenizers import PRE_TOKENIZERS, Rules
from shortlist.models.spm_merges import cached_merges, merges_from_scores
from shortlist.models.tokenizer_parts import END_TOKENS, TokenizerParts, wrap_texts

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


def read_gguf(metadata: Mapping[str, Any], name: str, merges_file: Path | None = None) -> TokenizerParts:
    """Build the tokenizer that GGUF metadata describes.

    Parameters
    ----------
    metadata
        The pairs whose keys start with `tokenizer.`: lists of str, arrays or lists of numbers, and scalars.
    name
        Of the checkpoint, for messages.
    merges_file
        Where the merges of a SentencePiece vocabulary are kept between runs. None derives them anew, which
        takes some seconds for Gemma.

    Raises
    ------
    CheckpointError
        The metadata is incomplete, contradicts itself, or names rules that are not supported.
    """
    keys = _Keys(metadata, name)
    match keys.get("model"):
        case "gpt2":
            rules = keys.rules()
            backend, starts_with_bos = _byte_level(keys, rules), rules.starts_with_bos
        case "llama":
            backend, starts_with_bos = _sentencepiece(keys, merges_file), True
        case other:
            keys.fail(
                f"is of the kind {other!r:.80}, which is not supported; "
                "supported are gpt2 (byte-level BPE) and llama (SentencePiece BPE)"
            )
    first = keys.wanted("add_bos_token", "bos_token_id", starts_with_bos)
    last = keys.wanted("add_eos_token", "eos_token_id", False)
    wrap_texts(backend, first, last)
    template = metadata.get("tokenizer.chat_template")
    return TokenizerParts(
        backend,
        size=len(keys.tokens),
        bos_id=keys.token_id("bos_token_id"),
        eos_ids=frozenset(keys.ends),
        names={name: token for name, key in _NAMES.items() if (token := keys.token(key)) is not None},
        chat_template=template if isinstance(template, str) else None,
    )


def _byte_level(keys: "_Keys", rules: Rules) -> Backend:
    ids = keys.ids
    merges = [(left, right) for left, _, right in (merge.partition(" ") for merge in keys.strings("merges"))]
    # The library panics over some of these.
    if not all(left in ids and right in ids and left + right in ids for left, right in merges):
        keys.fail("has merges of what is not in its vocabulary: fetch the file again, or convert it again")
    backend = Backend(models.BPE(ids, merges, ignore_merges=rules.whole_words))
    if rules.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = rules.cut()
    backend.decoder = decoders.ByteLevel()
    _add_whole_tokens(backend, keys.tokens, keys.types, normalized=False)
    return backend


def _sentencepiece(keys: "_Keys", merges_file: Path | None) -> Backend:
    prefixes_space = bool(keys.get("add_space_prefix", True))
    if not prefixes_space:
        keys.respell_spaces()
    tokens, scores = keys.tokens, keys.numbers("scores")
    pieces = np.flatnonzero(keys.types == _NORMAL)
    if merges_file is None:
        pairs = merges_from_scores(tokens, scores, pieces)
    else:
        pairs = cached_merges(merges_file, tokens, scores, pieces)
    left, right = (map(tokens.__getitem__, column) for column in pairs.T.tolist())
    model = models.BPE(
        keys.ids,
        list(zip(left, right, strict=True)),
        unk_token=keys.token("unknown_token_id"),
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    in_front = [normalizers.Prepend("▁")] if prefixes_space else []
    backend.normalizer = normalizers.Sequence([*in_front, normalizers.Replace(" ", "▁")])
    off_again = [decoders.Strip(" ", 1, 0)] if prefixes_space else []
    to_text = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *off_again]
    backend.decoder = decoders.Sequence(to_text)
    _add_whole_tokens(backend, tokens, keys.types, normalized=not prefixes_space)
    return backend


def _add_whole_tokens(backend: Backend, tokens: list[str], types: np.ndarray, *, normalized: bool) -> None:
    """Add the tokens that are matched whole, before anything else; `normalized` is for those with spaces."""
    special = np.flatnonzero((types == _CONTROL) | (types == _UNKNOWN))
    backend.add_special_tokens([AddedToken(tokens[i], normalized=False) for i in special])
    others = [tokens[i] for i in np.flatnonzero(types == _USER_DEFINED)]
    backend.add_tokens([AddedToken(token, normalized=normalized and "▁" in token) for token in others])


class _Keys:
    """The `tokenizer.ggml.*` keys of one file, read with checks."""

    def __init__(self, metadata: Mapping[str, Any], name: str):
        self.metadata = metadata
        self.name = name
        self.tokens = self.strings("tokens")
        self.ids = dict(zip(self.tokens, range(len(self.tokens)), strict=True))
        if len(self.ids) != len(self.tokens):
            self.fail("has the same token twice")
        self.ends = {self.ids[token] for token in END_TOKENS if token in self.ids}
        self.ends |= {i for key in _END_KEYS if (i := self.token_id(key)) is not None}
        self.types = self.token_types()

    def fail(self, why: str) -> NoReturn:
        raise CheckpointError(f"the tokenizer of {self.name} {why}")

    def get(self, key: str, default: Any = None) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{key}", default)

    def fail_list(self, key: str) -> NoReturn:
        self.fail(f"has no usable list tokenizer.ggml.{key}: fetch the file again, or convert it again")

    def strings(self, key: str) -> list[str]:
        values = self.get(key)
        if not isinstance(values, list) or not values or not isinstance(values[0], str):
            self.fail_list(key)
        return values

    def numbers(self, key: str) -> np.ndarray:
        """One number for each token."""
        values = np.asarray(self.get(key))
        if values.dtype.kind not in "iuf" or values.ndim != 1:
            self.fail_list(key)
        if len(values) != len(self.tokens):
            self.fail(f"has {len(self.tokens)} tokens, but {len(values)} {key}")
        return values

    def token_types(self) -> np.ndarray:
        listed = self.get("token_type") is not None
        types = self.numbers("token_type").copy() if listed else np.full(len(self.tokens), _NORMAL)
        # As llama.cpp does: converters have marked some of these as ordinary text.
        types[list(self.ends)] = _CONTROL
        if (bos := self.token_id("bos_token_id")) is not None:
            types[bos] = _CONTROL
        return types

    def respell_spaces(self) -> None:
        """Write the spaces of user-defined tokens as the rest of the vocabulary does; converters undo that.

        Runs of spaces are such tokens. Spelled like this they are matched after the spaces of the text are
        replaced, as in the model's own tokenizer, so that text with U+2581 in it gives the same tokens. Where
        a space is put in front of texts, it would be put in front of these tokens too: there they must stay.
        """
        self.tokens = list(self.tokens)
        for i in np.flatnonzero(self.types == _USER_DEFINED).tolist():
            if " " in self.tokens[i]:
                del self.ids[self.tokens[i]]
                self.tokens[i] = self.tokens[i].replace(" ", "▁")
                self.ids[self.tokens[i]] = i

    def token_id(self, key: str) -> int | None:
        value = self.get(key, _SPM_DEFAULTS.get(key) if self.get("model") == "llama" else None)
        if value is None or (isinstance(value, int) and 0 <= value < len(self.tokens)):
            return value
        self.fail(f"says that {key} is {value!r:.80}, but it has {len(self.tokens)} tokens")

    def token(self, key: str) -> str | None:
        token = self.token_id(key)
        return None if token is None else self.tokens[token]

    def wanted(self, flag: str, key: str, default: bool) -> str | None:
        """The token that is put around texts if `flag` says so."""
        if not self.get(flag, default):
            return None
        if (token := self.token(key)) is None:
            self.fail(f"is to use a {key}, but names none")
        return token

    def rules(self) -> Rules:
        pre = self.get("pre", "default")
        if pre not in PRE_TOKENIZERS:
            supported = ", ".join(PRE_TOKENIZERS)
            self.fail(f"has the pre-tokenizer {pre!r:.80}, which is not supported; supported are {supported}")
        return PRE_TOKENIZERS[pre]
