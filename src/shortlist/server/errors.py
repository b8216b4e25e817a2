"""Errors of all parts of the server, in OpenAI's format."""

import json
import logging
import re
from collections.abc import Callable, Mapping
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
    """An exception that becomes an error response.

    Parameters
    ----------
    status
        HTTP status.
    message
        One sentence that names the object and the next step.
    param
        The parameter at fault, if one is.
    code
        Machine-readable code.
    """

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        """The object in OpenAI's format."""
        kind = _TYPES.get(self.status, INTERNAL if self.status >= 500 else INVALID)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ErrorDetail(BaseModel):
    """The details of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorDetail


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON in ASCII, which can express even half of a surrogate pair."""
    return Response(json.dumps(content).encode(), status, headers, media_type="application/json")


def as_api_error(error: Exception, public: Callable[[str], str]) -> ApiError:
    """The error that a client gets for an exception; a defect of ours is logged, and its text not sent.

    Parameters
    ----------
    error
    public
        Removes from a message the details that clients must not see.
    """
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return _validation_error(error)
        case HTTPException(status_code=400):  # raised by FastAPI where Python's JSON parser gives up
            return _no_json()
        case HTTPException():
            return ApiError(error.status_code, str(error.detail))
        case QueueFull():
            return ApiError(429, str(error), code="queue_full")
        case UsageError():
            return ApiError(400, public(str(error)))
        case TimeoutError():
            return ApiError(504, "the request took too long: ask for fewer tokens", code="timeout")
        case ShortlistError():
            return ApiError(500, public(str(error)))
        case _:
            log.error("a defect of the server", exc_info=error)
            return ApiError(500, "the server failed; its log says why")


def error_response(error: Exception, public: Callable[[str], str] = str) -> Response:
    """The response to a request that failed; parameters as in `as_api_error`."""
    told = as_api_error(error, public)
    headers = dict(getattr(error, "headers", None) or {})
    if told.status in (429, 503):
        headers["Retry-After"] = str(RETRY_SECONDS)
    if told.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return json_response(told.body, told.status, headers)


def add_error_handlers(app: FastAPI) -> None:
    """Install handlers that turn every exception of an app into an error in OpenAI's format."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code in (404, 405):
            error.detail = request.app.state.routes.wrong(request.method, request.url.path)
        return error_response(error, request.app.state.service.public)

    for kind in (RequestValidationError, HTTPException, ApiError, ShortlistError, TimeoutError):
        app.add_exception_handler(kind, handle)


_CODES = {"missing": "missing_required_parameter"}

_PLAIN = {
    "dict_type": "should be a JSON object",
    "model_type": "should be a JSON object",
    "model_attributes_type": "should be a JSON object",
    "list_type": "should be a list",
    "string_type": "should be a text",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
    "missing": "is needed",
}
"""Names for Python's types in messages to clients."""


def _validation_error(error: RequestValidationError) -> ApiError:
    errors = error.errors()
    # In a union, the intended member is the one in which validation got furthest.
    deepest = max(len(each["loc"]) for each in errors)
    first, *others = [each for each in errors if len(each["loc"]) == deepest]
    if first["type"] == "json_invalid":
        return _no_json()
    location = ".".join(str(part) for part in first["loc"][1:] if _is_name(part))
    told: list[str] = [
        _PLAIN.get(each["type"]) or str(each["msg"]).replace("Input should", "should")
        for each in (first, *others)
        if each["loc"][:-1] == first["loc"][:-1]
    ]
    kind = first["type"]
    code = _CODES.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    what = " or ".join(dict.fromkeys(told))
    message = f"{location or 'the body'}{'' if what.startswith('[') else ': '}{what}"
    return ApiError(400, message, param=str(first["loc"][1]) if len(first["loc"]) > 1 else None, code=code)


def _no_json() -> ApiError:
    return ApiError(400, "the body is not valid JSON", code="invalid_json")


def _is_name(part: Any) -> bool:
    """Whether a part of an error's location is a client's name or an index, not a member of a union."""
    return isinstance(part, int) or (re.fullmatch(r"\w+", part) is not None and part not in _MEMBERS)


_MEMBERS = ("str", "int", "NamedChoice")
"""Members of unions that pydantic names without brackets."""
