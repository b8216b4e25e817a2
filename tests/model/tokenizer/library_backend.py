"""The vocabulary of a GGUF file as a `tokenizers.Tokenizer`: the oracle of `CompactBackend`."""

from itertools import pairwise
from typing import Any

import numpy as np
from model.tokenizer.vocabularies import CONTROL, NORMAL, UNKNOWN, USER_DEFINED
from tokenizers import AddedToken, decoders, models, normalizers
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing

from shortlist.model.tokenizer.pre_tokenizers import PRE_TOKENIZERS


def library_backend(metadata: dict[str, Any]) -> Backend:
    """The tokenizer of the metadata, made with the library; SentencePiece's texts start with BOS."""
    tokens = list(metadata["tokenizer.ggml.tokens"])
    types = metadata["tokenizer.ggml.token_type"]
    if metadata["tokenizer.ggml.model"] == "llama":
        backend, respelled = _sentence_piece(metadata, tokens)
    else:
        backend, respelled = _byte_level(metadata, tokens), False
    special = [i for i, kind in enumerate(types) if kind in (CONTROL, UNKNOWN)]
    backend.add_special_tokens([AddedToken(tokens[i], normalized=False) for i in special])
    others = [tokens[i] for i, kind in enumerate(types) if kind == USER_DEFINED]
    backend.add_tokens([AddedToken(token, normalized=respelled and "▁" in token) for token in others])
    return backend


def _byte_level(metadata: dict[str, Any], tokens: list[str]) -> Backend:
    rules = PRE_TOKENIZERS[metadata["tokenizer.ggml.pre"]]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    ids = {token: i for i, token in enumerate(tokens)}
    backend = Backend(models.BPE(ids, merges, ignore_merges=rules.whole_words))
    if rules.composes:
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = rules.cut()
    backend.decoder = decoders.ByteLevel()
    return backend


def _sentence_piece(metadata: dict[str, Any], tokens: list[str]) -> tuple[Backend, bool]:
    prefix = metadata["tokenizer.ggml.add_space_prefix"]
    types = metadata["tokenizer.ggml.token_type"]
    scores = metadata["tokenizer.ggml.scores"].tolist()
    if not prefix:
        tokens[:] = [
            token.replace(" ", "▁") if kind == USER_DEFINED else token
            for token, kind in zip(tokens, types, strict=True)
        ]
    pieces = {tokens[i]: scores[i] for i, kind in enumerate(types) if kind == NORMAL}
    model = models.BPE(
        {token: i for i, token in enumerate(tokens)},
        merges_from_scores(pieces),
        unk_token=tokens[0],
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = Backend(model)
    in_front = [normalizers.Prepend("▁")] if prefix else []
    backend.normalizer = normalizers.Sequence([*in_front, normalizers.Replace(" ", "▁")])
    off_again = [decoders.Strip(" ", 1, 0)] if prefix else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *off_again]
    )
    bos = tokens[1]
    backend.post_processor = TemplateProcessing(single=[bos, "$A"], pair=None, special_tokens=[(bos, 1)])
    return backend, not prefix


def merges_from_scores(scores: dict[str, float]) -> list[tuple[str, str]]:
    """The merges, best first, that do what the scores of a SentencePiece vocabulary say.

    While a span of text becomes one piece, no merge crosses its ends, so the merges inside it are those of
    the span tokenized alone: the one pair that makes a piece is the last step of tokenizing the piece itself.
    """
    pairs = [pair for piece in scores if (pair := _last_merge(piece, scores))]
    # Among equals the longest left part: a run grows from its left end.
    return sorted(pairs, key=lambda pair: (-scores[pair[0] + pair[1]], -len(pair[0])))


def _last_merge(piece: str, scores: dict[str, float]) -> tuple[str, str] | None:
    parts = list(piece)
    while len(parts) > 1:
        unions = np.array([scores.get(left + right, -np.inf) for left, right in pairwise(parts)])
        if unions.max() == -np.inf:
            return None
        i = int(unions.argmax())
        if len(parts) == 2:
            return (parts[0], parts[1]) if parts[0] in scores and parts[1] in scores else None
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return None
