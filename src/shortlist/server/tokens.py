"""`/tokenize` and `/detokenize`."""

from typing import Any

from fastapi import APIRouter, Request

from shortlist.server.errors import ApiError
from shortlist.server.schemas import DetokenizeBody, TokenizeBody
from shortlist.server.service import Service

router = APIRouter()


@router.post("/tokenize", summary="The tokens of a text or a chat")
async def tokenize(body: TokenizeBody, request: Request) -> dict[str, Any]:
    """A text without the tokens that belong around it, unless `add_special` asks for them."""
    service: Service = request.app.state.service
    service.check_body(body)
    given = [each for each in (body.content, body.prompt, body.messages) if each is not None]
    if len(given) != 1:
        raise ApiError(400, "give one of content, prompt and messages", param="content")
    (text,) = given

    def cut() -> list[int]:
        if not isinstance(text, str):
            return service.encode_chat([message.plain() for message in text])
        special = bool(body.add_special or body.add_special_tokens)
        return service.encode_text(text, add_special=special)

    tokens = await service.on_tokenizer(cut)
    return {"tokens": tokens, "count": len(tokens), "max_model_len": service.model.context}


@router.post("/detokenize", summary="The text of tokens")
async def detokenize(body: DetokenizeBody, request: Request) -> dict[str, str]:
    """Special tokens are left out."""
    service: Service = request.app.state.service
    service.check_body(body)
    service.checked(body.tokens)
    text = await service.on_tokenizer(lambda: service.model.tokenizer.decode(body.tokens))
    return {"content": text, "prompt": text}
