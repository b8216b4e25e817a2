"""Messages for unknown paths and wrong methods."""

import difflib
from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

ELSEWHERE = {
    "/api/chat": "/v1/chat/completions",
    "/api/generate": "/v1/completions",
    "/api/embed": "/v1/embeddings",
    "/api/embeddings": "/v1/embeddings",
    "/api/tags": "/v1/models",
    "/api/ps": "/v1/models",
    "/api/show": "/v1/models",
    "/api/version": "/v1/models",
    "/apply-template": "/tokenize",
    "/completion": "/v1/completions",
    "/embedding": "/v1/embeddings",
    "/infill": "/v1/completions",
    "/props": "/v1/models",
    "/slots": "/metrics",
    "/tokenizer_info": "/v1/models",
    "/v1/messages": "/v1/chat/completions",
    "/v1/responses": "/v1/chat/completions",
    "/version": "/v1/models",
}
"""Paths of other servers, with the path here that does the same."""


class Routes:
    """The paths of an application and the methods that they take.

    Parameters
    ----------
    endpoints
    """

    def __init__(self, endpoints: Iterable[BaseRoute]):
        self.endpoints = [route for route in endpoints if isinstance(route, APIRoute)]

    def methods(self, path: str) -> list[str]:
        """The methods that a path accepts, sorted; empty for an unknown path."""
        taken = set[str]()
        for route in self.endpoints:
            if route.path_regex.match(path):
                taken |= route.methods or set()
        if "GET" in taken:
            taken.add("HEAD")
        return sorted(taken | {"OPTIONS"}) if taken else []

    def wrong(self, method: str, path: str) -> str:
        """One sentence that names the nearest path, or the methods that the path accepts."""
        if methods := self.methods(path):
            return f"{path:.100} does not take {method:.20}: use {'GET' if 'GET' in methods else 'POST'}"
        plain = "/" + "/".join(part for part in path.split("/") if part)
        return f"there is no {path:.100}: did you mean {ELSEWHERE.get(plain) or self._nearest(plain)}?"

    def _nearest(self, path: str) -> str:
        known = [route.path for route in self.endpoints]
        parts = set(path.split("/"))
        same_end = [each for each in known if each.endswith(path) or path.endswith(each)]
        return max(
            same_end or known,
            key=lambda each: (
                len(parts & set(each.split("/"))),
                difflib.SequenceMatcher(None, path, each).ratio(),
            ),
        )
