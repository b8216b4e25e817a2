"""The endpoint `/v1/embeddings`: pools the last hidden states of a text to one vector."""

import base64
from collections.abc import Sequence

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from shortlist.server.errors import ApiError, json_response
from shortlist.server.schemas import EmbeddingBody
from shortlist.server.service import Service
from shortlist.server.streaming import while_connected

router = APIRouter()


@router.post("/v1/embeddings", summary="Vectors of texts")
async def embeddings(body: EmbeddingBody, request: Request) -> Response:
    """OpenAI's embeddings. The model was trained to generate: expect similarity, not the best retrieval."""
    service: Service = request.app.state.service
    service.check_body(body)
    return await while_connected(request, _embed(service, body), service.settings.timeout)


async def _embed(service: Service, body: EmbeddingBody) -> Response:
    width = service.model.config.width
    if body.dimensions not in (None, width):
        message = f"dimensions must be {width}: the model was not trained for shorter vectors"
        raise ApiError(400, message, param="dimensions", code="unsupported_value")
    texts = await service.on_tokenizer(lambda: [service.encode(text) for text in body.input])
    vectors = [await _pooled(service, tokens, last=body.pooling == "last") for tokens in texts]
    count = sum(len(tokens) for tokens in texts)
    as_text = body.encoding_format == "base64"
    data = [
        {"object": "embedding", "index": place, "embedding": _base64(vector) if as_text else vector.tolist()}
        for place, vector in enumerate(vectors)
    ]
    cost = {"prompt_tokens": count, "total_tokens": count}
    return json_response({"object": "list", "data": data, "model": service.settings.name, "usage": cost})


async def _pooled(service: Service, tokens: Sequence[int], *, last: bool) -> np.ndarray:
    """The mean of the hidden states, or the last one, scaled to norm 1; float32 [width]."""
    total = np.zeros(service.model.config.width)
    async for hidden in service.walk(service.model.hidden_pieces(tokens)):
        total = hidden[-1].astype(np.float64) if last else total + hidden.sum(axis=0, dtype=np.float64)
    return (total / (np.linalg.norm(total) or 1.0)).astype(np.float32)


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()
