"""What clients may send: OpenAI's parameters, those that other servers have added to them, and our own.

Every parameter may be null, which is the same as leaving it out.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from shortlist.engine.constraints import Constraint, JsonSchema, Regex
from shortlist.engine.options import MAX_BIASES, MAX_LOGPROBS, MAX_PENALTY

MAX_CHOICES = 16
MAX_PROMPTS = 256
MAX_MESSAGES = 4096

Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Text = str | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]
TextOrTokens = Text | Tokens | Annotated[list[Tokens], Field(min_length=1, max_length=MAX_PROMPTS)]
Penalty = Annotated[float, Field(ge=-MAX_PENALTY, le=MAX_PENALTY)]


class Closed(BaseModel):
    """A part of a request that knows all its fields."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Open(BaseModel):
    """A body whose unknown parameters are the server's to refuse or to name in its log."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)

    model: str | None = Field(None, description="The model that is served; may be left out.")
    user: str | None = Field(None, description="Ignored: nothing is kept about users.")


class Schema(BaseModel):
    """A JSON schema and its name, as OpenAI wraps it."""

    model_config = ConfigDict(strict=True)

    name: str = ""
    definition: dict[str, Any] = Field(alias="schema")


class ResponseFormat(Closed):
    """What the answer must be: any text, a JSON object, JSON of a schema, or a match of an expression."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: Schema | None = None
    regex: str | None = None

    def constraint(self) -> Constraint | None:
        """The constraint that it stands for.

        Raises
        ------
        ValueError
            The schema or the expression is missing.
        """
        match self.type:
            case "text":
                return None
            case "json_object":
                return JsonSchema({"type": "object"})
            case "json_schema" if self.json_schema is not None:
                return JsonSchema(self.json_schema.definition)
            case "regex" if self.regex is not None:
                return Regex(self.regex)
            case kind:
                raise ValueError(f"response_format of type {kind} needs a field {kind}")


class StreamOptions(BaseModel):
    """What else a stream tells."""

    model_config = ConfigDict(extra="allow", strict=True)

    include_usage: bool | None = None


class ShortlistOptions(Closed):
    """What only this server can do."""

    head: Literal["own", "dense"] | None = Field(None, description="dense: read all rows of the head.")
    trace: bool | None = Field(None, description="Streams: what was read for each token, and the candidates.")
    progress: bool | None = Field(None, description="Streams: how much of the prompt is read, while it is.")
    audit: int | None = Field(None, ge=1, description="Compare every so many tokens with the dense head.")


class GenerationBody(Open):
    """What completions and chats have in common."""

    temperature: float | None = Field(None, ge=0, le=100)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = Field(None, max_length=MAX_BIASES)
    seed: int | None = Field(None, ge=0, lt=2**64)
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    shortlist: ShortlistOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether the last chunk of a stream tells the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class CompletionBody(GenerationBody):
    """`POST /v1/completions`"""

    prompt: TextOrTokens
    max_tokens: int | None = Field(None, ge=0, description="16 by default; 0 only with echo.")
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = None


class TextPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(strict=True)

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """A turn of a chat."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: str = Field(min_length=1, max_length=64)
    content: str | list[TextPart]

    def plain(self) -> dict[str, str]:
        """As chat templates take it."""
        parts = self.content if isinstance(self.content, list) else [TextPart(type="text", text=self.content)]
        return {"role": self.role, "content": "".join(part.text for part in parts)}


class ChatBody(GenerationBody):
    """`POST /v1/chat/completions`"""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)


class EmbeddingBody(Open):
    """`POST /v1/embeddings`"""

    input: TextOrTokens
    encoding_format: Literal["float", "base64"] | None = None
    pooling: Literal["mean", "last"] | None = Field(
        None, description="Of the last hidden states; mean by default."
    )


class TokenizeBody(Open):
    """`POST /tokenize`: a text (`content` as llama-server has it, or `prompt` as vLLM) or a chat."""

    content: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    add_special: bool | None = None
    add_special_tokens: bool | None = None


class DetokenizeBody(Open):
    """`POST /detokenize`"""

    tokens: list[Token]


def as_prompts(given: str | Sequence[Any]) -> list[str | list[int]]:
    """The prompts of a request, which may be one or several, as text or as tokens."""
    if isinstance(given, str):
        return [given]
    return [list(given)] if isinstance(given[0], int) else list(given)
