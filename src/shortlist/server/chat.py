"""`/v1/chat/completions`: answer conversations."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from shortlist.engine.events import TokenEvent
from shortlist.engine.logprobs import TokenLogprob, TokenLogprobs
from shortlist.server.errors import ApiError
from shortlist.server.generate import Choice, Texts, generation_options, new_id, respond
from shortlist.server.schemas import ChatBody
from shortlist.server.service import Answer, Service
from shortlist.server.streaming import STREAMED, while_connected
from shortlist.server.usage import Clock

router = APIRouter()


@router.post("/v1/chat/completions", summary="Answer a conversation", responses=STREAMED)
async def chat_completions(body: ChatBody, request: Request) -> Response:
    """As OpenAI's, for models with a chat template and messages of text."""
    service: Service = request.app.state.service
    clock = Clock(request.state.arrived)
    service.check_body(body)
    return await while_connected(request, _answer(service, body, clock), service.settings.timeout)


async def _answer(service: Service, body: ChatBody, clock: Clock) -> Response:
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    options = generation_options(
        body,
        service,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    messages = [message.plain() for message in body.messages]
    service.log_text("messages", messages)
    tokens = await service.on_tokenizer(lambda: service.encode_chat(messages))
    texts = Texts.of([tokens], options, body.n or 1)
    return await respond(service, body, texts, ChatFormat(service), clock)


class ChatFormat:
    """How answers of a chat are written."""

    whole, chunk = "chat.completion", "chat.completion.chunk"

    def __init__(self, service: Service):
        self.id = new_id("chatcmpl")
        self._eos_ids = service.model.tokenizer.eos_ids

    def choice(self, place: int, answer: Answer) -> Choice:
        """See `Format`."""
        generation = answer.generation
        logprobs = None
        if generation.logprobs is not None:
            logprobs = {"content": [_written(entry) for entry in generation.logprobs], "refusal": None}
        return {
            "index": place,
            "message": {"role": "assistant", "content": generation.text, "refusal": None},
            "logprobs": logprobs,
            "finish_reason": generation.finish_reason,
        }

    def opening(self, place: int) -> Choice:
        """See `Format`."""
        return _delta(place, {"role": "assistant", "content": ""})

    def waiting(self, place: int) -> Choice:
        """See `Format`."""
        return _delta(place, {})

    def piece(self, place: int, token: TokenEvent) -> Choice:
        """See `Format`."""
        choice = _delta(place, {"content": token.text})
        if token.chosen.logprobs is not None and token.token not in self._eos_ids:
            choice["logprobs"] = {"content": [_written(token.chosen.logprobs)], "refusal": None}
        return choice

    def closing(self, place: int, answer: Answer) -> Choice:
        """See `Format`."""
        return {**_delta(place, {}), "finish_reason": answer.generation.finish_reason}


def _delta(place: int, delta: dict[str, Any]) -> Choice:
    return {"index": place, "delta": delta, "logprobs": None, "finish_reason": None}


def _written(entry: TokenLogprobs) -> dict[str, Any]:
    return {**_token(entry.chosen), "top_logprobs": [_token(each) for each in entry.top]}


def _token(entry: TokenLogprob) -> dict[str, Any]:
    written = entry.to_dict()
    return {"token": written["text"], "logprob": entry.logprob, "bytes": written["bytes"]}
