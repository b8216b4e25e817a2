"""The application: endpoints, middleware and the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from shortlist.engine.batch import BatchEngine
from shortlist.engine.model import Model
from shortlist.server import chat, completions, embeddings, status, tokens
from shortlist.server.errors import ErrorBody, add_error_handlers, error_response
from shortlist.server.limits import ApiKeys, BodyLimit, JsonBodies, Methods, RequestClock
from shortlist.server.routes import Routes
from shortlist.server.service import Service
from shortlist.server.settings import ServerSettings

PAGE = Path(__file__).parent / "page"

ERRORS = (400, 401, 404, 405, 408, 413, 415, 429, 500, 503, 504)


def create_app(model: Model, settings: ServerSettings) -> FastAPI:
    """Make an ASGI application for one model. Nothing else may use the model until the application is closed.

    Its engine starts and ends with the application's lifespan.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine = BatchEngine(model, slots=settings.slots, queue=settings.queue, kv_tokens=settings.kv_tokens)
        app.state.service = service = Service(engine, settings)
        try:
            yield
        finally:
            service.close()

    described: dict[int | str, dict[str, Any]] = {code: {"model": ErrorBody} for code in ERRORS}
    described["4XX"] = {"model": ErrorBody}  # without it FastAPI describes a 422 that never occurs
    app = FastAPI(
        title="shortlist",
        description="OpenAI's API, and what a shortlist read.",
        lifespan=lifespan,
        responses=described,
        docs_url=None,  # these pages load scripts from other servers
        redoc_url=None,
    )
    add_error_handlers(app)
    endpoints = []
    for part in (completions, chat, embeddings, tokens, status):
        app.include_router(part.router)
        endpoints += part.router.routes
    app.state.routes = Routes(endpoints)
    if (PAGE / "index.html").exists():
        app.get("/", include_in_schema=False)(_page)
        app.mount("/page", StaticFiles(directory=PAGE), name="page")
    # The middleware that is added last runs first.
    app.add_middleware(_Catching)
    app.add_middleware(JsonBodies)
    app.add_middleware(Methods, methods=app.state.routes.methods)
    app.add_middleware(BodyLimit, most=settings.max_body)
    if settings.api_keys:
        app.add_middleware(ApiKeys, keys=settings.api_keys)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=["X-Request-Id", "Retry-After"],
        )
    app.add_middleware(RequestClock, service=lambda: app.state.service)
    return app


def _page() -> FileResponse:
    return FileResponse(PAGE / "index.html")


class _Catching:
    """Turns an exception from a defect into an error in OpenAI's format, if the response has not begun.

    Starlette's own handler would log it twice and close the connection.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def noting(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            await error_response(error)(scope, receive, send)
