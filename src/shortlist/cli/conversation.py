"""The state of a chat: its messages, and what is asked for each answer."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from shortlist.engine.options import GenerationOptions

if TYPE_CHECKING:
    from shortlist.engine.generation import Generation, Stream
    from shortlist.engine.model import Model

ROOM = 1 / 4
"""Share of the context that is kept free for an answer whose length was not limited."""


class Conversation:
    """Messages that go back and forth between a user and a model.

    Parameters
    ----------
    model
    system
        System message at the start; empty for none.
    options
        Of every answer; left out, greedy ones as long as the context allows.

    Attributes
    ----------
    turns : list of message
        A user's and the model's in turns, the oldest first, without the system message.
    latest : Generation or None
        The latest answer.
    dropped : int
        How many of the oldest exchanges were forgotten to make room for the latest answer.
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
        """Stream the answer to `message`, and remember both.

        An answer that is abandoned is remembered as far as it came; a message that got no answer at all is
        forgotten. Where the context is full, the oldest exchanges are forgotten, whole ones.

        Parameters
        ----------
        message
        on_prompt
            As for `Model.stream`.

        Raises
        ------
        UsageError
            The message alone does not fit the context, or the template does not take it.
        """
        turns, tokens = self._fitting([*self.turns, {"role": "user", "content": message}])
        stream = self.model.stream(tokens, self.options, on_prompt=on_prompt)
        self.dropped = (len(self.turns) + 1 - len(turns)) // 2
        self.latest = stream.generation
        return self._remembering(turns, stream)

    def encode(self, turns: list[dict[str, str]]) -> list[int]:
        """The tokens of the system message and these turns, up to the beginning of an answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return self.model.tokenizer.encode_chat(system + turns)

    def reset(self) -> None:
        """Forget all messages but the system message."""
        self.turns = []

    def _fitting(self, turns: list[dict[str, str]]) -> tuple[list[dict[str, str]], list[int]]:
        """The latest turns that leave room for an answer, and their tokens; the last is always there."""
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
