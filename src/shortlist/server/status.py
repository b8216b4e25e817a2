"""The endpoints of status: models, health and metrics."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from shortlist.server.errors import json_response
from shortlist.server.service import Service, no_model

router = APIRouter()


@router.get("/v1/models", summary="The models")
async def models(request: Request) -> dict[str, Any]:
    """List the one served model."""
    return {"object": "list", "data": [_described(request.app.state.service)]}


@router.get("/v1/models/{name:path}", summary="One model")
async def model(name: str, request: Request) -> dict[str, Any]:
    """Describe the model with this name."""
    service: Service = request.app.state.service
    if not name:  # some clients write the list so
        return await models(request)
    if name != service.settings.name:
        raise no_model(name, service.settings.name)
    return _described(service)


@router.get("/health", summary="Whether it takes requests")
async def health(request: Request) -> Response:
    """Answer load balancers: 200, or 503 while the server shuts down."""
    closing = request.app.state.service.closing
    return json_response({"status": "shutting down" if closing else "ok"}, 503 if closing else 200)


@router.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """Counters of requests, tokens and bytes read, and histograms of times."""
    return Response(request.app.state.service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


def _described(service: Service) -> dict[str, Any]:
    model = service.model
    return {
        "id": service.settings.name,
        "object": "model",
        "created": service.created,
        "owned_by": "shortlist",
        "max_model_len": service.context,
        "shortlist": {
            "family": model.config.family,
            "context": service.context,
            "max_prompt": service.max_prompt,
            "vocabulary": model.config.vocab_size,
            "head": model.head.name,
            "ffn": model.decoder.ffn,
            "dense_bytes_per_token": service.dense_bytes,
            "recipe": model.recipe and model.recipe.summary(),
            "sampling_defaults": model.sampling_defaults,
            "notes": list(model.notes),
        },
    }
