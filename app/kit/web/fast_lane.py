"""The fast lane: middleware that answers the most frequent routes without the framework's work for each request.

Measured on two cores: an ordinary FastAPI route that does nothing costs more than one signature through this lane. The
routes are ordinary ones (documented, tested and reachable as such); the lane only calls the same function directly. So
such a function takes `request` and the path's parameters and returns a `Response`, nothing else.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.routing import APIRoute, iter_route_contexts

from app.kit.web.asgi import Asgi, Receive, Scope, Send

Endpoint = Callable[..., Awaitable[Response]]


class FastLaneConflictError(Exception):
    """A route of the fast lane would answer what is another route's."""


class FastLane:
    """Answers the given routers' routes itself and passes everything else on to the application.

    FastLaneConflictError, at the start, when one of them would shadow another route.
    """

    def __init__(self, app: FastAPI, routers: Sequence[APIRouter]) -> None:
        self._app: Asgi = app
        self._handlers = app.exception_handlers
        self._routes: dict[tuple[str, str], APIRoute] = {}
        for route in _api_routes(routers):
            for method in route.methods or ():
                if "{" in _last_part(route.path):
                    raise FastLaneConflictError(f"{route.path} ends in a parameter: the lane looks up the last part")
                other = self._routes.setdefault((method, _last_part(route.path)), route)
                if other is not route:
                    raise FastLaneConflictError(f"{method} {route.path} and {other.path} end alike")
        self._refuse_shadows(app)

    def _refuse_shadows(self, app: FastAPI) -> None:
        own = set(map(id, self._routes.values()))
        for context in iter_route_contexts(app.routes):
            if id(context.original_route) in own:
                continue
            for (method, _), fast in self._routes.items():
                # A parameter's own braces are a fitting value for it; an end that is a parameter fits every end.
                path = re.sub(r"\{\w+\}$", _last_part(fast.path), context.path or "")
                if method in (context.methods or ()) and fast.path_regex.match(path):
                    raise FastLaneConflictError(f"{method} {fast.path} would shadow {context.path}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            route = self._routes.get((scope["method"], _last_part(scope["path"])))
            match = route.path_regex.match(scope["path"]) if route else None
            if route and match:
                scope["app"] = self._app
                scope["route"] = route
                response = await self._answer(Request(scope, receive), route.endpoint, match.groupdict())
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer(self, request: Request, endpoint: Endpoint, parameters: dict[str, str]) -> Response:
        try:
            return await endpoint(request, **parameters)
        except Exception as error:
            for kind in type(error).__mro__:
                handler: Any = self._handlers.get(kind)
                # A bug is left to the request middleware, which logs it.
                if handler is not None and kind is not Exception:
                    answer: Response = await handler(request, error)
                    return answer
            raise


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]


def _api_routes(routers: Sequence[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            yield route
