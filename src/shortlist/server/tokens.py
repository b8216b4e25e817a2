"""The endpoints `/tokenize` and `/detokenize`."""

from typing import Any

from fastapi import APIRouter, Request

from shortlist.server.chat import template_options
from shortlist.server.errors import ApiError
from shortlist.server.schemas import DetokenizeBody, TokenizeBody
from shortlist.server.service import Service

router = APIRouter()

CHAT_ONLY = ("tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")


@router.post("/tokenize", summary="The tokens of a text or a chat")
async def tokenize(body: TokenizeBody, request: Request) -> dict[str, Any]:
    """Tokenize a text; `add_special` adds the special tokens at its start and end."""
    service: Service = request.app.state.service
    service.check_body(body)
    given = [name for name in ("content", "prompt", "messages") if getattr(body, name) is not None]
    if len(given) != 1:
        raise ApiError(400, "give one of content, prompt and messages", param="content")
    for name in CHAT_ONLY:
        if getattr(body, name) is not None and body.messages is None:
            raise ApiError(400, f"{name} is for messages, not for a text", param=name)

    def cut() -> list[int]:
        if body.messages is not None:
            return service.encode_chat(body.messages, **template_options(body, body.tools or ()))
        return service.encode_text(
            getattr(body, given[0]),
            add_special=bool(body.add_special or body.add_special_tokens),
            parse_special=body.parse_special is not False,
        )

    tokens = await service.on_tokenizer(cut)
    return {"tokens": tokens, "count": len(tokens), "max_model_len": service.context}


@router.post("/detokenize", summary="The text of tokens")
async def detokenize(body: DetokenizeBody, request: Request) -> dict[str, str]:
    """Turn tokens into a text. Special tokens are spelled out, unless `parse_special` is false."""
    service: Service = request.app.state.service
    service.check_body(body)
    service.checked(body.tokens)
    skipped = body.parse_special is False
    text = await service.on_tokenizer(
        lambda: service.model.tokenizer.decode(body.tokens, skip_special=skipped)
    )
    return {"content": text, "prompt": text}
