"""The state of a chat: its messages, and what is asked for each answer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shortlist.engine.growing import Generation
    from shortlist.engine.model import Model


class Conversation:
    """Messages that go back and forth between a user and a model.

    Parameters
    ----------
    model
    system
        System message at the start; empty for none.
    **options
        Of every answer, as for `Model.stream`.

    Attributes
    ----------
    latest : Generation or None
        The latest answer.
    """

    def __init__(self, model: "Model", system: str = "", **options: Any):
        self.model = model
        self.system = system
        self.options = options
        self.turns: list[dict[str, str]] = []
        self.latest: Generation | None = None

    def answer(self, message: str) -> Iterator[str]:
        """Stream the answer to `message`, and remember both.

        An answer that is abandoned is remembered as far as it came; a message that got no answer at
        all is forgotten.

        Raises
        ------
        UsageError
            The conversation no longer fits the context.
        """
        turns = [*self.turns, {"role": "user", "content": message}]
        system = [{"role": "system", "content": self.system}] if self.system else []
        tokens = self.model.tokenizer.encode_chat(system + turns)
        stream = self.model.stream(tokens, **self.options)
        self.latest = stream.generation
        try:
            yield from stream
        finally:
            if stream.generation.tokens:
                self.turns = [*turns, {"role": "assistant", "content": stream.generation.text}]

    def reset(self) -> None:
        """Forget all messages but the system message."""
        self.turns = []
