"""Errors in OpenAI's shape, whatever part of the server they come from."""

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from shortlist.engine.batch import QueueFull
from shortlist.errors import ShortlistError, UsageError

log = logging.getLogger("shortlist.server")

RETRY_SECONDS = 1

INVALID, AUTHENTICATION, NOT_FOUND = "invalid_request_error", "authentication_error", "not_found_error"
OVERLOADED, TIMEOUT, INTERNAL = "rate_limit_error", "timeout_error", "server_error"

_TYPES = {401: AUTHENTICATION, 404: NOT_FOUND, 408: TIMEOUT, 429: OVERLOADED, 504: TIMEOUT}


class ApiError(Exception):
    """An answer that is an error.

    Parameters
    ----------
    status
        Of HTTP.
    message
        One sentence that names the object and the next step.
    param
        The parameter at fault, if one is.
    code
        For programs.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        """As OpenAI writes it."""
        kind = _TYPES.get(self.status, INTERNAL if self.status >= 500 else INVALID)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error as OpenAI writes it."""

    error: ErrorDetail


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII, which even half of a surrogate pair can be written in."""
    return Response(json.dumps(content).encode(), status, headers, media_type="application/json")


def as_api_error(error: Exception) -> ApiError:
    """What a client is told of an exception; a defect of ours is logged, and not told."""
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _validation_error(error)
        case HTTPException():
            return ApiError(error.status_code, str(error.detail))
        case QueueFull():
            return ApiError(429, str(error), code="queue_full")
        case UsageError():
            return ApiError(400, str(error))
        case TimeoutError():
            return ApiError(504, "the request took too long: ask for fewer tokens", code="timeout")
        case ShortlistError():
            return ApiError(500, str(error))
        case _:
            log.error("a defect of the server", exc_info=error)
            return ApiError(500, "the server failed; its log says why")


def error_response(error: Exception) -> Response:
    """The answer to a request that failed."""
    told = as_api_error(error)
    headers = dict(getattr(error, "headers", None) or {})
    if told.status in (429, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if told.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_response(told.body, told.status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Let every exception of an app become an error in OpenAI's shape."""

    async def handle(_: Request, error: Exception) -> Response:
        return error_response(error)

    for kind in (RequestValidationError, HTTPException, ApiError, ShortlistError, TimeoutError):
        app.add_exception_handler(kind, handle)


def _validation_error(error: RequestValidationError) -> ApiError:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:])
    if first["type"] == "json_invalid":
        return ApiError(400, "the body is not valid JSON", code="invalid_json")
    what = f"{place}: {first['msg']}" if place else f"the body: {first['msg']}"
    # Of a union the first parts say which member failed; the parameter itself is what a client knows.
    return ApiError(422, what, param=str(first["loc"][1]) if len(first["loc"]) > 1 else None)
