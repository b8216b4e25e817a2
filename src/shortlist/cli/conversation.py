"""The state of a chat: its messages, and the options of its answers."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from shortlist.engine.options import GenerationOptions

if TYPE_CHECKING:
    from shortlist.engine.generation import Generation, Stream
    from shortlist.engine.model import Model

ROOM = 1 / 4
"""Share of the context that is reserved for an answer without a limit."""


class Conversation:
    """A conversation between a user and a model.

    Parameters
    ----------
    model
    system
        System message at the start; empty for none.
    options
        Options of every answer; by default, greedy answers as long as the context allows.

    Attributes
    ----------
    turns : list of message
        Messages of the user and of the model, alternating, the oldest first, without the system message.
    latest : Generation or None
        The latest answer.
    dropped : int
        Number of oldest exchanges that were dropped to make space for the latest answer.
    """

    def __init__(
        self,
        model: "Model",
        system: str = "",
        options: GenerationOptions | None = None,
    ):
        self.model = model
        self.system = system
        self.options = options or GenerationOptions(max_tokens=None)
        self.turns: list[dict[str, str]] = []
        self.latest: Generation | None = None
        self.dropped = 0

    def answer(self, message: str, on_prompt: Callable[[int, int], None] | None = None) -> Iterator[str]:
        """Stream the answer to `message`, and store both.

        An abandoned answer is stored as far as it was generated; a message without any answer is dropped.
        Where the context is full, whole exchanges are dropped, the oldest first.

        Parameters
        ----------
        message
        on_prompt
            The argument of `Model.stream`.

        Raises
        ------
        UsageError
            The message alone does not fit in the context, or the template refuses it.
        """
        turns, tokens = self._fitting([*self.turns, {"role": "user", "content": message}])
        stream = self.model.stream(tokens, self.options, on_prompt=on_prompt)
        self.dropped = (len(self.turns) + 1 - len(turns)) // 2
        self.latest = stream.generation
        return self._remembering(turns, stream)

    def encode(self, turns: list[dict[str, str]]) -> list[int]:
        """Encode the system message and these turns, up to the start of an answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return self.model.tokenizer.encode_chat(system + turns)

    def reset(self) -> None:
        """Drop all messages but the system message."""
        self.turns = []

    def _fitting(self, turns: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[int]]:
        """The latest turns that leave space for an answer, and their tokens; always with the last turn."""
        room = self.options.max_tokens or int(ROOM * self.model.context)
        tokens = self.encode(turns)
        while len(turns) > 1 and len(tokens) + room > self.model.context:
            turns = turns[2:]
            tokens = self.encode(turns)
        return turns, tokens

    def _remembering(self, turns: list[dict[str, str]], stream: "Stream") -> Iterator[str]:
        try:
            yield from stream
        finally:
            if stream.generation.tokens:
                self.turns = [*turns, {"role": "assistant", "content": stream.generation.text}]
