"""The parts of a tokenizer, independent of the file format."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from shortlist.model.tokenizer.compact_backend import CompactBackend

END_TOKENS = (
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
)
"""Tokens that end a turn or a text in every vocabulary, as in llama.cpp; files do not name all of them."""

FILL_IN_ENDS = {
    "fim_pad_token_id": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep_token_id": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep_token_id": ("<|file_sep|>",),
}
"""Ends of fill-in-the-middle texts: the token that the key names, or the first of these that exists."""


def find_ends(
    find: Callable[[str], int | None], is_special: Callable[[int], bool], named: Mapping[str, int | None]
) -> set[int]:
    """Find the tokens that end a text, by their names.

    Parameters
    ----------
    find
        Returns the id of a token, or None.
    is_special
        Tells whether the checkpoint marks a token as special.
    named
        Ids that the checkpoint names, by the keys of `FILL_IN_ENDS`.
    """
    ends = {token: i for token in END_TOKENS if (i := find(token)) is not None}
    if "</s>" in ends and ("<|tool_response>" in ends or not is_special(ends["</s>"])):
        del ends["</s>"]  # in other vocabularies an HTML tag
    if ends.keys() & {"<|call|>", "<|calls|>"} and ends.keys() & {"<|return|>", "<|flush|>"}:
        ends.pop("<|end|>", None)  # in these vocabularies it only ends a part of a turn
    found = set(ends.values())
    for key, tokens in FILL_IN_ENDS.items():
        given = named.get(key)
        ids = [given] if given is not None else [i for token in tokens if (i := find(token)) is not None]
        found |= set(ids[:1])
    return found


@dataclass(frozen=True)
class TokenizerParts:
    """A backend that encodes, with the checkpoint's settings for its tokens.

    Parameters
    ----------
    backend
        Encodes; special tokens are among its added tokens, and it adds those at the start and end of a text.
    size
        The largest id plus 1.
    bos_id
        Id of the token that starts a text, or None.
    eos_ids
        Ids of the tokens that end a text or a turn.
    names
        Special tokens by their names in chat templates: `bos_token`, `eos_token`, ...
    chat_template
        Source of the chat template, or None.
    named_templates
        Sources of further chat templates by name: `tool_use`, ...
    notes
        Settings of the checkpoint's tokenizer that are not applied unchanged, one line each.
    """

    backend: Backend | CompactBackend
    size: int
    bos_id: int | None
    eos_ids: frozenset[int]
    names: dict[str, str]
    chat_template: str | None
    named_templates: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def make_special(backend: Backend, tokens: Iterable[str]) -> None:
    """Mark added tokens as special, so that ordinary text that spells them stays text."""
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    special = [added.get(content) or AddedToken(content, normalized=False) for content in tokens]
    for token in special:
        token.special = True
    backend.add_special_tokens(special)  # in one call, because each call indexes all added tokens anew
