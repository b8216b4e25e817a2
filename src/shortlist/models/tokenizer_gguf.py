"""Builds a tokenizer from the `tokenizer.*` metadata of a GGUF file.

The metadata holds the vocabulary and the name of an algorithm, whose rules are llama.cpp's or, where llama.cpp only
approximates it, those of the tokenizer that the model was trained with.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from shortlist.errors import CheckpointError
from shortlist.models.spm_merges import cached_merges, merges_from_scores
from shortlist.models.tokenizer_parts import END_TOKENS, TokenizerParts, wrap_texts

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4

# The regular expressions are those of the models' own tokenizers: digits in groups of up to three, or one by one.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = _WORDS % "{1,3}"
_QWEN2 = _WORDS % ""
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _single_digits() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _split(pattern: str) -> Callable[[], pre_tokenizers.PreTokenizer]:
    return lambda: pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


PRE_TOKENIZERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "default": _gpt2,
    "gpt-2": _gpt2,
    "smollm": _single_digits,
    "starcoder": _single_digits,
    "refact": _single_digits,
    "minerva-7b": _single_digits,
    "llama-bpe": _split(_LLAMA3),
    "llama3": _split(_LLAMA3),
    "llama-v3": _split(_LLAMA3),
    "falcon3": _split(_LLAMA3),
    "pixtral": _split(_LLAMA3),
    "smaug-bpe": _split(_LLAMA3),
    "qwen2": _split(_QWEN2),
    "deepseek-r1-qwen": _split(_QWEN2),
    "megrez": _split(_QWEN2),
    "tekken": _split(_TEKKEN),
}
"""For each value of `tokenizer.ggml.pre` how a text is cut before merging."""

# Vocabularies of these take a word that is a token as it is, merges or not, and start texts with BOS unless told not to.
_WHOLE_WORDS = {"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "tekken"}
# llama.cpp leaves this out; the models' own tokenizers compose characters first, and that is what they learned from.
_COMPOSED = {"qwen2"}

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
        The pairs whose keys start with `tokenizer.`.
    name
        Of the checkpoint, for messages.
    merges_file
        Where the merges of a SentencePiece vocabulary are kept between runs; None derives them anew (seconds).

    Raises
    ------
    CheckpointError
        The metadata is incomplete, contradicts itself, or names an algorithm that is not supported.
    """
    return _Reader(metadata, name).parts(merges_file)


class _Reader:
    """The metadata of one tokenizer, read with checks."""

    def __init__(self, metadata: Mapping[str, Any], name: str):
        self.metadata = metadata
        self.name = name
        model = self.get("model", None)
        if model not in ("gpt2", "llama"):
            self.fail(f"is of the kind {model!r:.80}, which is not supported; supported are gpt2 (byte-level BPE) and llama (SentencePiece)")
        self.is_spm = model == "llama"
        self.tokens: list[str] = self.array("tokens", str)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        if len(self.ids) != len(self.tokens):
            self.fail("has the same token twice")
        self.types = self.token_types()
        self.user_defined = np.flatnonzero(self.types == _USER_DEFINED).tolist()
        self.prefixes_space = self.is_spm and bool(self.get("add_space_prefix", True))
        if self.is_spm and not self.prefixes_space:
            self.respell_spaces()

    def fail(self, why: str) -> NoReturn:
        raise CheckpointError(f"the tokenizer of {self.name} {why}")

    def get(self, key: str, default: Any) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{key}", default)

    def array(self, key: str, kind: type) -> Any:
        values = self.get(key, None)
        if kind is str:
            fits = isinstance(values, list) and all(isinstance(value, str) for value in values)
        else:
            fits = isinstance(values, Sequence | np.ndarray) and np.asarray(values).dtype.kind in "iuf"
        if values is None or not fits or len(values) == 0:
            self.fail(f"has no usable list tokenizer.ggml.{key}: fetch the file again, or convert it again")
        return values if kind is str else np.asarray(values)

    def token_types(self) -> np.ndarray:
        if self.get("token_type", None) is None:
            types = np.full(len(self.tokens), _NORMAL)
        else:
            types = np.array(self.array("token_type", int))
        if len(types) != len(self.tokens):
            self.fail(f"has {len(self.tokens)} tokens, but {len(types)} token types")
        # As llama.cpp does: converters have marked some of these as ordinary text.
        control = [self.ids[token] for token in END_TOKENS if token in self.ids]
        control += [i for key in ("bos_token_id", *_END_KEYS) if (i := self.token_id(key)) is not None]
        types[control] = _CONTROL
        return types

    def respell_spaces(self) -> None:
        """Write the spaces of user-defined tokens as the rest of the vocabulary does, which converters have undone.

        Runs of spaces are such tokens. Spelled like this they are matched after spaces are replaced, so that text
        which has the replacement in it gives the same tokens as the model's own tokenizer. Where a space is put
        in front of texts, that would be put in front of these tokens too, so there they stay as they are.
        """
        for i in self.user_defined:
            del self.ids[self.tokens[i]]
            self.tokens[i] = self.tokens[i].replace(" ", "▁")
            self.ids[self.tokens[i]] = i

    def token_id(self, key: str) -> int | None:
        value = self.get(key, _SPM_DEFAULTS.get(key) if self.is_spm else None)
        if value is None or (isinstance(value, int) and 0 <= value < len(self.tokens)):
            return value
        self.fail(f"says that {key} is {value!r:.80}, but it has {len(self.tokens)} tokens")

    def token(self, key: str) -> str | None:
        token = self.token_id(key)
        return None if token is None else self.tokens[token]

    def parts(self, merges_file: Path | None) -> TokenizerParts:
        if self.is_spm:
            backend, starts = self.sentencepiece(merges_file), True
        else:
            backend, starts = self.byte_level(), self.pre in _WHOLE_WORDS
        self.add_tokens(backend)
        first = self.wrapping("add_bos_token", "bos_token_id", starts)
        last = self.wrapping("add_eos_token", "eos_token_id", False)
        wrap_texts(backend, first, last)
        ends = {self.ids[token] for token in END_TOKENS if token in self.ids}
        ends |= {i for key in _END_KEYS if (i := self.token_id(key)) is not None}
        template = self.metadata.get("tokenizer.chat_template")
        return TokenizerParts(
            backend,
            size=len(self.tokens),
            bos_id=self.token_id("bos_token_id"),
            eos_ids=frozenset(ends),
            names={name: token for name, key in _NAMES.items() if (token := self.token(key)) is not None},
            chat_template=template if isinstance(template, str) else None,
        )

    def wrapping(self, flag: str, key: str, default: bool) -> str | None:
        if not self.get(flag, default):
            return None
        token = self.token(key)
        if token is None:
            self.fail(f"is to use a {key}, but names none")
        return token

    @property
    def pre(self) -> str:
        pre = self.get("pre", "default")
        if pre not in PRE_TOKENIZERS:
            self.fail(f"cuts text by the rules {pre!r:.80}, which are not supported; supported are {', '.join(PRE_TOKENIZERS)}")
        return pre

    def byte_level(self) -> Backend:
        merges = [tuple(merge.split(" ")) for merge in self.array("merges", str)]
        # The library does not check these, and aborts in ways that Python cannot handle.
        if not all(len(m) == 2 and m[0] in self.ids and m[1] in self.ids and m[0] + m[1] in self.ids for m in merges):
            self.fail("has merges of pieces that are not in its vocabulary: fetch the file again, or convert it again")
        backend = Backend(models.BPE(self.ids, merges, ignore_merges=self.pre in _WHOLE_WORDS))
        if self.pre in _COMPOSED:
            backend.normalizer = normalizers.NFC()
        backend.pre_tokenizer = PRE_TOKENIZERS[self.pre]()
        backend.decoder = decoders.ByteLevel()
        return backend

    def sentencepiece(self, merges_file: Path | None) -> Backend:
        scores = self.array("scores", float)
        if len(scores) != len(self.tokens):
            self.fail(f"has {len(self.tokens)} tokens, but {len(scores)} scores")
        pieces = np.flatnonzero(self.types == _NORMAL)
        if merges_file is None:
            pairs = merges_from_scores(self.tokens, scores, pieces)
        else:
            pairs = cached_merges(merges_file, self.tokens, scores, pieces)
        left, right = (map(self.tokens.__getitem__, column) for column in pairs.T.tolist())
        model = models.BPE(
            self.ids,
            list(zip(left, right, strict=True)),
            unk_token=self.token("unknown_token_id"),
            fuse_unk=True,
            byte_fallback=True,
        )
        backend = Backend(model)
        spaces = normalizers.Replace(" ", "▁")
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        if self.prefixes_space:
            spaces = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
            steps.append(decoders.Strip(" ", 1, 0))
        backend.normalizer = spaces
        backend.decoder = decoders.Sequence(steps)
        return backend

    def add_tokens(self, backend: Backend) -> None:
        """Mark the tokens that are matched whole, before anything else."""
        special = np.flatnonzero((self.types == _CONTROL) | (self.types == _UNKNOWN))
        backend.add_special_tokens([AddedToken(self.tokens[i], normalized=False) for i in special])
        others = [self.tokens[i] for i in self.user_defined]
        backend.add_tokens([AddedToken(token, normalized=self.is_spm and "▁" in token) for token in others])
