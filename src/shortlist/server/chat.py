"""The endpoint `/v1/chat/completions`: answers conversations."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from shortlist.engine.events import TokenEvent
from shortlist.engine.logprobs import TokenLogprob, TokenLogprobs
from shortlist.server.errors import ApiError
from shortlist.server.generate import Choice, Texts, new_id, respond, wanted
from shortlist.server.schemas import ChatBody, TokenizeBody
from shortlist.server.service import Answer, Service
from shortlist.server.streaming import STREAMED, while_connected
from shortlist.server.tools import Offer, Tool, Writer, joined
from shortlist.server.usage import Clock

router = APIRouter()


@router.post("/v1/chat/completions", summary="Answer a conversation", responses=STREAMED)
async def chat_completions(body: ChatBody, request: Request) -> Response:
    """OpenAI's chat completions, for models with a chat template; messages hold text only."""
    service: Service = request.app.state.service
    clock = Clock(request.state.arrived)
    service.check_body(body)
    return await while_connected(request, _answer(service, body, clock), service.settings.timeout)


async def _answer(service: Service, body: ChatBody, clock: Clock) -> Response:
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    offer = Offer.of(body.tools, body.tool_choice, body.parallel_tool_calls)
    constraint = body.constraint()
    if offer.must and constraint:
        message = (
            "tool_choice asks for a call, and so the answer cannot match anything else: send one of them"
        )
        raise ApiError(400, message, param="tool_choice", code="invalid_value")
    asked = wanted(
        body,
        service,
        default=None,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        constraint=offer.constraint() or constraint,
    )
    service.log_text("messages", [message.plain() for message in body.messages])
    tokens, warnings = await service.on_tokenizer(lambda: _prompt(service, body, offer))
    texts = Texts.of(service, [tokens], asked)
    return await respond(service, body, texts, ChatFormat(service, offer, warnings), clock)


def _prompt(service: Service, body: ChatBody, offer: Offer) -> tuple[list[int], list[str]]:
    options = template_options(body, offer.tools)
    own: dict[str, Any] = {}
    if body.reasoning_effort not in (None, "none"):
        own["reasoning_effort"] = body.reasoning_effort
    if body.documents:
        own["documents"] = body.documents
    options["template_kwargs"] = {**own, **options["template_kwargs"]}
    tokens = service.encode_chat(body.messages, **options)
    tokenizer, warnings = service.model.tokenizer, []
    if offer.tools and not tokenizer.template_knows("tools"):
        warnings.append("the chat template of this model does not show tools: it was not told of them")
    called = any(message.tool_calls for message in body.messages)
    if called and "tool_calls" not in (tokenizer.chat_template or ""):
        warnings.append("the chat template of this model does not show tool_calls of earlier messages")
    return tokens, warnings


def template_options(body: ChatBody | TokenizeBody, tools: Sequence[Tool]) -> dict[str, Any]:
    """The options of `Tokenizer.encode_chat` for a body."""
    continues = bool(body.continue_final_message)
    return {
        "tools": [tool.plain() for tool in tools] or None,
        "add_generation_prompt": not continues
        if body.add_generation_prompt is None
        else body.add_generation_prompt,
        "continue_final_message": continues,
        "template_kwargs": body.chat_template_kwargs or {},
    }


class ChatFormat:
    """The format of chat answers.

    Parameters
    ----------
    service
    offer
        The tools.
    warnings
        Warnings for the client that are known before any answer.
    """

    whole, chunk = "chat.completion", "chat.completion.chunk"

    def __init__(self, service: Service, offer: Offer, warnings: list[str]):
        self.id = new_id("chatcmpl")
        self.warnings = warnings
        self._offer = offer
        self._eos_ids = service.model.tokenizer.eos_ids
        self._writers: dict[int, Writer] = {}

    def choice(self, index: int, answer: Answer) -> Choice:
        """See `Format`."""
        generation = answer.generation
        delta = self._writer(index).push(generation.text)
        last, reason = self._end(index, answer)
        logprobs = None
        if generation.logprobs is not None:
            logprobs = {"content": [_written(entry) for entry in generation.logprobs], "refusal": None}
        return {
            "index": index,
            "message": joined([delta, last]),
            "logprobs": logprobs,
            "finish_reason": reason,
        }

    def opening(self, index: int) -> Choice:
        """See `Format`."""
        return _delta(index, {"role": "assistant", "content": ""})

    def waiting(self, index: int) -> Choice:
        """See `Format`."""
        return _delta(index, {})

    def piece(self, index: int, token: TokenEvent) -> Choice | None:
        """See `Format`."""
        choice = _delta(index, self._writer(index).push(token.text))
        if token.chosen.logprobs is not None and token.token not in self._eos_ids:
            choice["logprobs"] = {"content": [_written(token.chosen.logprobs)], "refusal": None}
        return choice if choice["delta"] or choice["logprobs"] else None

    def closing(self, index: int, answer: Answer) -> Choice:
        """See `Format`."""
        delta, reason = self._end(index, answer)
        return {**_delta(index, delta), "finish_reason": reason}

    def _end(self, index: int, answer: Answer) -> tuple[dict[str, Any], str | None]:
        writer = self._writer(index)
        end = writer.end(answer.generation.finish_reason)
        self.warnings += writer.warnings
        return end

    def _writer(self, index: int) -> Writer:
        return self._writers.setdefault(index, self._offer.writer())


def _delta(index: int, delta: dict[str, Any]) -> Choice:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _written(entry: TokenLogprobs) -> dict[str, Any]:
    return {**_token(entry.chosen), "top_logprobs": [_token(each) for each in entry.top]}


def _token(entry: TokenLogprob) -> dict[str, Any]:
    written = entry.to_dict()
    return {"token": written["text"], "logprob": entry.logprob, "bytes": written["bytes"]}
