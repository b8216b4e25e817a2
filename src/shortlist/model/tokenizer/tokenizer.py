"""Converts text to tokens and back."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken
from tokenizers import Encoding as LibraryEncoding

from shortlist.errors import UsageError
from shortlist.model.tokenizer.compact_backend import Encoding
from shortlist.model.tokenizer.parts import TokenizerParts
from shortlist.model.tokenizer.token_bytes import TokenBytes

if TYPE_CHECKING:
    from shortlist.checkpoints import Checkpoint
    from shortlist.model.chat.template import ChatTemplate


_DEFAULT, _TOOL_USE = "default", "tool_use"


class Tokenizer:
    """The tokenizer and chat template of a checkpoint.

    By default, special tokens that are spelled out in a text are ordinary text, so that a user's text cannot
    end or begin a turn.

    Parameters
    ----------
    parts
        The result of `read_gguf` or `read_folder`.
    name
        Name of the checkpoint, for messages.

    Attributes
    ----------
    name : str
        Name of the checkpoint, for messages.
    bos_id : int or None
        The token that starts a text.
    eos_ids : frozenset of int
        The tokens that end a text or a turn.
    special_ids : frozenset of int
        All special tokens.
    vocab_size : int
        The largest id plus 1. The model's embedding may have more rows, or fewer where some tokens never
        occur.
    template_names : tuple of str
        Names of further chat templates, such as `tool_use`, which is used with tools.
    chat_template : str or None
        The source of the chat template.
    notes : tuple of str
        Settings of the checkpoint's tokenizer that are not applied unchanged.
    strips_space : bool
        Whether encoding puts a space in front of a text, and decoding takes it away.

    Examples
    --------
    >>> tokenizer = Tokenizer.from_checkpoint(checkpoint)
    >>> tokenizer.decode(tokenizer.encode("Hello"))
    'Hello'
    """

    def __init__(self, parts: TokenizerParts, name: str):
        self._backend = parts.backend
        self.name = name
        self.names = parts.names
        self._bytes = TokenBytes(parts.backend, parts.size, name)
        added = parts.backend.get_added_tokens_decoder()
        self._specials = {i: token.content for i, token in added.items() if token.special}
        self._lock = Lock()
        self.bos_id = parts.bos_id
        self.eos_ids = parts.eos_ids
        self.special_ids = frozenset(self._specials)
        self.vocab_size = parts.size
        self.chat_template = parts.chat_template
        self.template_names = tuple(sorted(parts.named_templates))
        self._sources = {**parts.named_templates, _DEFAULT: parts.chat_template}
        self._templates: dict[str, ChatTemplate] = {}
        self.notes = parts.notes
        self.strips_space = self._bytes.strips_space

    def __repr__(self) -> str:
        template = "a" if self.chat_template else "no"
        return f"<Tokenizer of {self.vocab_size} tokens, {template} chat template>"

    @classmethod
    def from_checkpoint(cls, checkpoint: "Checkpoint") -> "Tokenizer":
        """Read the tokenizer of an open checkpoint.

        Raises
        ------
        CheckpointError
            The tokenizer is missing, damaged, or not supported.
        """
        source, name = checkpoint.tokenizer_source, str(checkpoint.path)
        if isinstance(source, Path):
            from shortlist.model.tokenizer.folder import read_folder

            return cls(read_folder(source), name)
        from shortlist.model.tokenizer.gguf import read_gguf

        return cls(read_gguf(source, name), name)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Tokenize a text.

        Parameters
        ----------
        text
            Any text. It is not changed before, except that some vocabularies compose characters (NFC).
        add_special
            Whether to add the special tokens at the start and end of a text, mostly BOS at the start.
        parse_special
            Whether special tokens that are spelled out in the text are encoded as such.

        Raises
        ------
        UsageError
            The text holds half of a surrogate pair, for example from bytes that could not be decoded.
        """
        return self._encode(text, add_special, parse_special).ids

    def _encode(self, text: str, add_special: bool, parse_special: bool) -> Encoding | LibraryEncoding:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the text is not valid UTF-8 at character {error.start}: write it in UTF-8"
            ) from None
        # The flag is state of the backend, so two threads must not set it at once.
        with self._lock:
            self._backend.encode_special_tokens = not parse_special
            return self._backend.encode(text, add_special_tokens=add_special)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Decode tokens to text; bytes that are not UTF-8 become U+FFFD."""
        skipped = self.special_ids if skip_special else frozenset()
        data = b"".join(self._bytes(i) for i in ids if i not in skipped)
        if self.strips_space:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of a token, maybe a part of a character; empty for an unknown token."""
        return self._bytes(token)

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Tokenize a conversation by the checkpoint's chat template.

        Parameters
        ----------
        messages
            Each has a `role`, mostly a `content` (text, or a list of parts of text), and further fields that
            the template reads, such as `tool_calls`. Special tokens that are spelled out in them are text.
        tools
            JSON schemas of the functions that the model may call.
        add_generation_prompt
            Whether the tokens end with the start of the assistant's turn.
        continue_final_message
            Whether the tokens end with the last message, so that the model continues it;
            `add_generation_prompt` must then be False.
        template_kwargs
            Further variables for the template, such as `enable_thinking` or `documents`.

        Raises
        ------
        UsageError
            There is no chat template, it refuses the messages, or it does not read a variable.
        CheckpointError
            The chat template is broken.
        """
        text = self._template(tools is not None).render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
        )
        return self._encode_traced(text, (messages, tools, template_kwargs))

    def template_knows(self, variable: str) -> bool:
        """Whether the chat template reads a variable, such as `tools` or `enable_thinking`.

        Raises
        ------
        UsageError
            There is no chat template.
        CheckpointError
            The chat template is broken.
        """
        return variable in self._template(with_tools=variable == "tools").facts.variables

    def _encode_traced(self, text: str, inputs: Any) -> list[int]:
        """Encode a rendered text: special tokens of the template are special; those of inputs are text."""
        from shortlist.model.chat.traced import spans_of

        origins, text = spans_of(text), str.__str__(text)
        encoding = self._encode(text, add_special=False, parse_special=True)
        own: list[tuple[int, int, int]] = []
        spelled = 0
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            # A span may include spaces around the token; the span of an unknown token has another text.
            content = self._specials.get(token)
            if content is None or (at := text.find(content, start, end)) < 0:
                continue
            spelled += 1
            touching = [span for span in origins if span.start < at + len(content) and at < span.end]
            if any(span.sure for span in touching) or (touching and _holds(inputs, content)):
                continue
            own.append((token, start, end))
        if len(own) == spelled:
            return encoding.ids
        # One call for the whole text, because the start of a text is encoded differently.
        stand_in = self._stand_in
        for _, start, end in reversed(own):
            text = text[:start] + stand_in + text[end:]
        ids = self.encode(text, add_special=False)
        stand_in_id, specials = self._backend.token_to_id(stand_in), (token for token, *_ in own)
        return [next(specials) if i == stand_in_id else i for i in ids]

    def _template(self, with_tools: bool) -> "ChatTemplate":
        """The chat template: `tool_use` where there are tools and such a template, else the default one."""
        name = _TOOL_USE if with_tools and _TOOL_USE in self.template_names else _DEFAULT
        if name not in self._templates:
            if (source := self._sources[name]) is None:
                raise UsageError(self._no_template())
            from shortlist.model.chat.template import ChatTemplate  # Jinja takes 2 MB; only chats need it

            self._templates[name] = ChatTemplate(source, self.name, self.names)
        return self._templates[name]

    def _no_template(self) -> str:
        if not self.template_names:
            return f"{self.name} has no chat template: use a model that is tuned for chat, or `shortlist run`"
        names = ", ".join(self.template_names)
        return (
            f"{self.name} has the chat templates {names}, and none is the default: name one of them `default`"
        )

    @cached_property
    def _stand_in(self) -> str:
        """A placeholder token that is matched whole in a text. It is random, so that no user can write it."""
        content = f"<{secrets.token_hex(16)}>"
        with self._lock:
            self._backend.add_tokens([AddedToken(content, normalized=False)])
        return content


def _holds(value: Any, content: str) -> bool:
    """Whether a text among a chat's inputs spells out a token."""
    if isinstance(value, Mapping):
        return any(_holds(item, content) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds(item, content) for item in value)
    return isinstance(value, str) and content in value
