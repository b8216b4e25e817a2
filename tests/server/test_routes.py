import pytest
from fastapi import APIRouter

from shortlist.server.routes import ELSEWHERE, Routes

PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings", "/tokenize", "/detokenize")


@pytest.fixture(scope="module")
def routes():
    router = APIRouter()
    for path in PATHS:
        router.post(path)(lambda: None)
    for path in ("/v1/models", "/v1/models/{name:path}", "/health", "/metrics"):
        router.get(path)(lambda: None)
    return Routes(router.routes)


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/completions", ["OPTIONS", "POST"]),
        ("/health", ["GET", "HEAD", "OPTIONS"]),
        ("/v1/models/a/b", ["GET", "HEAD", "OPTIONS"]),
        ("/v1/completion", []),
        ("/", []),
    ],
)
def test_the_methods_of_a_path(routes, path, methods):
    assert routes.methods(path) == methods


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/models", "/v1/models"),
        ("/v1//models", "/v1/models"),
        ("/v1/model", "/v1/models"),
        ("/v2/models", "/v1/models"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/completions", "/v1/completions"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/completions/", "/v1/completions"),
        ("/v1/tokenize", "/tokenize"),
        ("/v1/detokenize", "/detokenize"),
        ("/api/v1/embeddings", "/v1/embeddings"),
        ("/healthz", "/health"),
        ("/v1/metrics", "/metrics"),
        *ELSEWHERE.items(),
    ],
)
def test_an_unknown_path_names_the_nearest(routes, path, near):
    assert routes.wrong("GET", path) == f"there is no {path}: did you mean {near}?"


def test_every_path_gets_an_answer(routes):
    assert "did you mean" in routes.wrong("GET", "/")
    assert len(routes.wrong("GET", "/" + "x" * 5000)) < 200


def test_what_other_servers_have_is_here_under_a_path_that_exists(routes):
    assert all(routes.methods(path) for path in ELSEWHERE.values())
    assert not any(routes.methods(path) for path in ELSEWHERE)


def test_a_wrong_method_is_told_the_right_ones(routes):
    assert routes.wrong("GET", "/v1/completions") == "/v1/completions does not take GET: use POST"
    assert routes.wrong("POST", "/health") == "/health does not take POST: use GET"
    assert len(routes.wrong("X" * 5000, "/health")) < 200
