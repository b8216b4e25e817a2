"""What a tokenizer is made of, wherever it was read from."""

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
"""Tokens that end a turn or a text wherever they are, as in llama.cpp; files do not name all of theirs."""

FILL_IN_ENDS = {
    "fim_pad_token_id": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep_token_id": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep_token_id": ("<|file_sep|>",),
}
"""Ends of fill-in-the-middle texts: what the key names, else the first of these tokens that exists."""


def find_ends(
    find: Callable[[str], int | None], is_special: Callable[[int], bool], named: Mapping[str, int | None]
) -> set[int]:
    """Find the tokens that end a text by what they are called.

    Parameters
    ----------
    find
        The id of a token, if it exists.
    is_special
        Whether the checkpoint marks a token as special.
    named
        Ids that the checkpoint names, by the keys of `FILL_IN_ENDS`.
    """
    ends = {token: i for token in END_TOKENS if (i := find(token)) is not None}
    if "</s>" in ends and ("<|tool_response>" in ends or not is_special(ends["</s>"])):
        del ends["</s>"]  # elsewhere an HTML tag
    if ends.keys() & {"<|call|>", "<|calls|>"} and ends.keys() & {"<|return|>", "<|flush|>"}:
        ends.pop("<|end|>", None)  # there it only ends a part of a turn
    found = set(ends.values())
    for key, tokens in FILL_IN_ENDS.items():
        given = named.get(key)
        ids = [given] if given is not None else [i for token in tokens if (i := find(token)) is not None]
        found |= set(ids[:1])
    return found


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
    named_templates
        The sources of further chat templates, by name: `tool_use`, ...
    notes
        What the checkpoint says of its tokens that is not taken as it stands, one line each.
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
    """Mark added tokens as special: in ordinary text they are then text."""
    added = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    special = [added.get(content) or AddedToken(content, normalized=False) for content in tokens]
    for token in special:
        token.special = True
    backend.add_special_tokens(special)  # at once, because each call indexes all added tokens anew
