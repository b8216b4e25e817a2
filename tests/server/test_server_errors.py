"""The error that a client gets for an exception."""

import json

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from shortlist.engine.batch import QueueFull
from shortlist.errors import CheckpointError, UsageError
from shortlist.server.errors import ApiError, as_api_error, error_response, json_response


def public(message):
    return message.replace("/secret/m.gguf", "m")


@pytest.mark.parametrize(
    ("error", "status", "kind", "code", "message"),
    [
        (ApiError(404, "gone", code="c"), 404, "not_found_error", "c", "gone"),
        (QueueFull("full"), 429, "rate_limit_error", "queue_full", "full"),
        (UsageError("/secret/m.gguf: no"), 400, "invalid_request_error", None, "m: no"),
        (CheckpointError("/secret/m.gguf: broken"), 500, "server_error", None, "m: broken"),
        (TimeoutError(), 504, "timeout_error", "timeout", "the request took too long: ask for fewer tokens"),
        (HTTPException(405, "no"), 405, "invalid_request_error", None, "no"),
        (HTTPException(400, "x"), 400, "invalid_request_error", "invalid_json", "the body is not valid JSON"),
        (ValueError("ours"), 500, "server_error", None, "the server failed; its log says why"),
    ],
)
def test_what_a_client_is_told(error, status, kind, code, message):
    told = as_api_error(error, public)
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    assert (told.status, told.body) == (status, body)
    response = error_response(error, public)
    assert (response.status_code, json.loads(response.body)) == (status, body)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (408, "timeout_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (499, "invalid_request_error"),
        (500, "server_error"),
        (503, "server_error"),
        (504, "timeout_error"),
    ],
)
def test_the_type_goes_by_the_status(status, kind):
    error = ApiError(status, "x", param="p")
    assert error.body["error"]["type"] == kind
    assert error.body["error"]["param"] == "p"
    assert str(error) == "x"


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503, 504])
def test_headers_that_say_what_to_do_next(status):
    headers = error_response(ApiError(status, "x")).headers
    assert headers.get("retry-after") == ("1" if status in (429, 503) else None)
    assert headers.get("www-authenticate") == ("Bearer" if status == 401 else None)
    assert headers["content-type"] == "application/json"


def test_headers_of_an_exception_are_kept():
    error = HTTPException(405, "no", headers={"Allow": "POST"})
    assert error_response(error).headers["allow"] == "POST"


def test_only_a_defect_is_logged(caplog):
    as_api_error(UsageError("x"), str)
    as_api_error(TimeoutError(), str)
    assert not caplog.records
    defect = ValueError("ours")
    as_api_error(defect, str)
    assert [record.exc_info[1] for record in caplog.records] == [defect]


def test_json_is_ascii():
    response = json_response({"a": "ü\ud83d"}, 201, {"X-A": "b"})
    assert response.body == b'{"a": "\\u00fc\\ud83d"}'
    assert (response.status_code, response.headers["x-a"]) == (201, "b")
    assert json_response({}).status_code == 200


class Part(BaseModel):
    text: str
    size: int = 0


class Asked(BaseModel, strict=True):
    prompt: str | list[Part]
    flag: bool = False
    share: float = 0.5
    count: int = Field(1, ge=0)
    names: list[str] = []
    few: dict[str, float] = {}


@pytest.fixture(scope="module")
def refused():
    """The error for a body that FastAPI refuses."""
    app = FastAPI()

    @app.post("/")
    def take(asked: Asked) -> None: ...

    @app.exception_handler(RequestValidationError)
    def told(request, error):
        return error_response(error)

    client = TestClient(app)

    def refused(content=None, **body):
        headers = {"Content-Type": "application/json"}
        response = client.post("/", content=content or json.dumps(body), headers=headers)
        assert response.status_code == 400
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error"
        return error["message"], error["param"], error["code"]

    return refused


def test_a_value_of_another_type_is_told_in_the_words_of_json(refused):
    for name, value, should in (
        ("flag", 1, "be true or false"),
        ("share", "x", "be a number"),
        ("count", "x", "be a whole number"),
        ("names", "x", "be a list"),
        ("few", [], "be a JSON object"),
    ):
        expected = (f"{name}: should {should}", name, "invalid_type")
        assert refused(prompt="x", **{name: value}) == expected
    assert refused(prompt="x", names=["a", 5]) == ("names.1: should be a text", "names", "invalid_type")


def test_a_body_that_is_no_object(refused):
    assert refused(content="[1]") == ("the body: should be a JSON object", None, "invalid_type")
    for content in ("{", '{"prompt": }', "nonsense"):
        assert refused(content=content) == ("the body is not valid JSON", None, "invalid_json")


def test_a_value_out_of_range(refused):
    expected = ("count: should be greater than or equal to 0", "count", "invalid_value")
    assert refused(prompt="x", count=-1) == expected


def test_a_parameter_that_is_missing(refused):
    assert refused() == ("prompt: is needed", "prompt", "missing_required_parameter")


def test_of_a_union_the_member_counts_that_was_meant(refused):
    assert refused(prompt=5) == ("prompt: should be a text or should be a list", "prompt", "invalid_type")
    message, param, _ = refused(prompt=[{"text": "a"}, {"text": 5}])
    assert (message, param) == ("prompt.1.text: should be a text", "prompt")
    message, _, code = refused(prompt=[{}])
    assert (message, code) == ("prompt.0.text: is needed", "missing_required_parameter")
