"""The bodies of requests: OpenAI's parameters, additions of other servers, and our own.

Every parameter may be null, which is the same as leaving it out. Other fields are in `field_lists`.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from shortlist.engine.constraints import Constraint
from shortlist.engine.options import MAX_BIASES, MAX_LOGPROBS, MAX_PENALTY
from shortlist.server import field_lists
from shortlist.server.errors import ApiError
from shortlist.server.formats import ResponseFormat, StructuredOutputs, constraints
from shortlist.server.messages import Message
from shortlist.server.tools import Tool, ToolChoice
from shortlist.server.values import GREATEST_SEED, Checked, Stops, TextsOrTokens, Token, Whole

MAX_CHOICES = 128
MAX_MESSAGES = 4096
MAX_TOOLS = 128

Penalty = Annotated[float, Field(ge=-MAX_PENALTY, le=MAX_PENALTY)]
MaxTokens = Annotated[Whole, Field(ge=-1, description="-1: as many as there is room for.")]


def _seed(value: int | None) -> int | None:
    """Map -1 to a random seed, as llama-server and others do; other negative numbers are ordinary seeds."""
    return None if value is None or value == -1 else value % GREATEST_SEED


class Body(Checked):
    """The fields of all requests."""

    model: str | None = Field(None, description="The model that is served; may be left out.")


class StreamOptions(Checked):
    """Options of a stream."""

    lists: ClassVar = field_lists.STREAM_OPTIONS
    what: ClassVar = "stream_options"

    include_usage: bool | None = Field(None, description="The last chunk tells the usage.")


class ShortlistOptions(Checked):
    """Options that only this server has."""

    what: ClassVar = "shortlist"

    head: Literal["own", "dense"] | None = Field(None, description="dense: read all rows of the head.")
    trace: bool | None = Field(None, description="Streams: what was read for each token, and the candidates.")
    progress: bool | None = Field(None, description="Streams: how much of the prompt is read, while it is.")
    audit: Whole | None = Field(None, ge=1, description="Compare every so many tokens with the dense head.")


class GenerationBody(Body):
    """The fields that completions and chats share."""

    temperature: float | None = Field(None, ge=0, le=100, description="1 by default; below 0.01 is greedy.")
    top_p: float | None = Field(None, ge=0, le=1, description="0 is greedy.")
    top_k: Whole | None = Field(None, ge=-1, description="0 and -1 keep all.")
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, ge=0.01, le=100)
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = Field(
        None, max_length=MAX_BIASES, description="From token ids, spelled as texts, to -100 to 100."
    )
    seed: Annotated[Whole | None, Field(ge=-(2**63), lt=GREATEST_SEED), AfterValidator(_seed)] = Field(
        None, description="-1: another one each time."
    )
    stop: Stops = Field(None, description="Empty ones stop nothing.")
    n: Whole | None = Field(None, ge=1, le=MAX_CHOICES)
    best_of: Whole | None = Field(None, ge=1, description="Only n itself: nothing is chosen from more.")
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = Field(None, description="Goes before max_tokens.")
    n_predict: MaxTokens | None = Field(
        None, description="llama-server's name for max_tokens, which goes before."
    )
    response_format: ResponseFormat | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = Field(None, min_length=1)
    structured_outputs: StructuredOutputs | None = None
    json_schema: dict[str, Any] | None = Field(None, description="llama-server's.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    shortlist: ShortlistOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether the last chunk of a stream holds the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def most_tokens(self, default: int | None) -> int | None:
        """The largest number of tokens of an answer; None: as many as the context holds."""
        given = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        most = next((each for each in given if each is not None), default)
        return None if most == -1 else most

    def constraint(self) -> Constraint | None:
        """The constraint that the answer must match.

        Raises
        ------
        ApiError
            There is more than one constraint.
        """
        found = constraints(self.guided_json, self.guided_regex, self.guided_choice)
        found += constraints(self.json_schema, None, None)
        if self.structured_outputs:
            found += self.structured_outputs.constraints()
        if self.response_format and (own := self.response_format.constraint()):
            found.append(own)
        if len(found) > 1:
            message = "the answer can match one thing only: send one schema, regex or choice"
            raise ApiError(400, message, param="response_format", code="invalid_value")
        return found[0] if found else None


class CompletionBody(GenerationBody):
    """The body of `POST /v1/completions`."""

    lists: ClassVar = field_lists.COMPLETION

    prompt: TextsOrTokens
    logprobs: Whole | None = Field(None, ge=0, le=MAX_LOGPROBS)
    echo: bool | None = Field(None, description="The prompt stands before the answer.")
    parse_special: bool | None = Field(
        None, description="Whether special tokens spelled in a prompt are special; true by default."
    )
    add_special_tokens: bool | None = Field(
        None, description="Whether the tokens that belong around a text are added; true by default."
    )


class ChatBody(GenerationBody):
    """The body of `POST /v1/chat/completions`."""

    lists: ClassVar = field_lists.CHAT

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    logprobs: bool | None = None
    top_logprobs: Whole | None = Field(None, ge=0, le=MAX_LOGPROBS, description="Only with logprobs.")
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(None, description="false: one call at most.")
    chat_template_kwargs: dict[str, Any] | None = Field(None, description="Variables for the chat template.")
    documents: list[dict[str, Any]] | None = Field(None, description="For chat templates that read them.")
    add_generation_prompt: bool | None = Field(
        None, description="Whether the prompt ends with the beginning of an answer; true by default."
    )
    continue_final_message: bool | None = Field(None, description="Continue the last message.")
    reasoning_effort: str | None = Field(None, description="For chat templates that read it.")


class EmbeddingBody(Body):
    """The body of `POST /v1/embeddings`."""

    lists: ClassVar = field_lists.EMBEDDING

    input: TextsOrTokens
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Whole | None = Field(None, ge=1, description="Only the width of the model.")
    pooling: Literal["mean", "last"] | None = Field(
        None, description="The pooling of the last hidden states; mean by default."
    )


class TokenizeBody(Body):
    """The body of `POST /tokenize`: a text (llama-server's `content` or vLLM's `prompt`) or a chat."""

    lists: ClassVar = field_lists.TOKENIZE

    content: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(None, min_length=1, max_length=MAX_MESSAGES)
    add_special: bool | None = Field(None, description="false by default.")
    add_special_tokens: bool | None = Field(None, description="vLLM's name for add_special.")
    parse_special: bool | None = Field(None, description="As for completions: true by default.")
    tools: list[Tool] | None = Field(None, max_length=MAX_TOOLS)
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class DetokenizeBody(Body):
    """The body of `POST /detokenize`."""

    lists: ClassVar = field_lists.DETOKENIZE

    tokens: list[Token]
    parse_special: bool | None = Field(None, description="false: special tokens are left out.")
