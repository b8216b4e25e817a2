"""What a tokenizer is made of, wherever it was read from."""

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from shortlist.models.compact_backend import CompactBackend

END_TOKENS = (
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "<｜end▁of▁sentence｜>",
)
"""Tokens that end a turn or a text wherever they exist; checkpoints do not name all of theirs."""


@dataclass(frozen=True)
class TokenizerParts:
    """A backend that encodes, and what the checkpoint says about its tokens.

    Parameters
    ----------
    backend
        Special tokens are added tokens of it, and it adds what belongs around a text.
    size
        One more than the largest id.
    bos_id
        Of the token that starts a text, if there is one.
    eos_ids
        Of the tokens that end a text or a turn.
    names
        Special tokens as chat templates name them: `bos_token`, `eos_token`, ...
    chat_template
        Its source, if there is one.
    """

    backend: Backend | CompactBackend
    size: int
    bos_id: int | None
    eos_ids: frozenset[int]
    names: dict[str, str]
    chat_template: str | None


def make_special(backend: Backend, tokens: Iterable[str]) -> None:
    """Mark added tokens as special: in ordinary text they are then text."""
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    special = [added.get(content) or AddedToken(content, normalized=False) for content in tokens]
    for token in special:
        token.special = True
    backend.add_special_tokens(special)  # at once, because each call indexes all added tokens anew
