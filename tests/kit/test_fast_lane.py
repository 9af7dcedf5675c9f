"""The fast lane answers as the ordinary way does, word for word, only sooner."""

from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response

from app.kit.database.session import Database
from app.kit.web.fast_lane import FastLane, FastLaneConflictError
from app.kit.web.middleware import RequestMiddleware
from app.main import create_api
from app.settings import Settings
from app.signatures.routes import signing_router
from tests.support.factories import insert_petition, person

AT = "/v1/petitions/end-the-ban"
JSON = {"Content-Type": "application/json"}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", f"{AT}/count", {}),
    ("GET", f"{AT}/count", {"headers": {"If-None-Match": '"0-100"'}}),
    ("GET", "/v1/petitions/nowhere/count", {}),
    ("GET", "/v1/petitions/%2F/count", {}),
    ("GET", "/v1/petitions/%F0%9F%92%A9/count", {}),
    ("GET", "/v1/petitions//count", {}),
    ("GET", f"{AT}/count/", {}),
    ("POST", f"{AT}/count", {}),
    ("PUT", f"{AT}/signatures", {}),
    ("HEAD", f"{AT}/count", {}),
    ("GET", "/count", {}),
    ("POST", f"{AT}/signatures", {"content": b"{}", "headers": JSON}),
    ("POST", f"{AT}/signatures", {"content": b"{", "headers": JSON}),
    ("POST", f"{AT}/signatures", {"content": b"{}"}),
    ("POST", f"{AT}/signatures", {"json": person(1, "XX")}),
    ("POST", "/v1/petitions/nowhere/signatures", {"json": person(1)}),
    ("POST", f"{AT}/signatures", {"json": {**person(1), "comment": "x" * 70_000}}),
    ("GET", "/v1/campaigns", {}),
]


@pytest.fixture
async def ways(settings: Settings, database: Database) -> Any:
    """The same application, reached by the lane and without it."""
    await insert_petition(database)
    api = create_api(settings.model_copy(update={"max_body_bytes": 65_536}))
    async with api.router.lifespan_context(api):
        clients = []
        for app in (RequestMiddleware(FastLane(api, [signing_router])), RequestMiddleware(api)):
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            clients.append(httpx.AsyncClient(transport=transport, base_url="http://multitude.test"))
        yield clients
        for client in clients:
            await client.aclose()


def _alike(answer: httpx.Response) -> tuple[int, dict[str, str], str]:
    request_id = answer.headers.pop("x-request-id")
    return answer.status_code, dict(answer.headers), answer.text.replace(request_id, "")


async def test_both_ways_answer_alike(ways: list[httpx.AsyncClient]) -> None:
    for method, url, more in CASES:
        by_lane, ordinary = [_alike(await client.request(method, url, **more)) for client in ways]
        assert by_lane == ordinary, (method, url)


async def test_a_signature_counts_by_either_way(ways: list[httpx.AsyncClient]) -> None:
    for number, client in enumerate(ways):
        answer = await client.post(f"{AT}/signatures", json=person(number))
        assert answer.status_code == 201
        assert set(answer.json()) == {"id", "status", "receipt", "links"}
        assert (await client.get(f"{AT}/count")).json()["signature_count"] == number + 1


def _router(*paths: str) -> APIRouter:
    router = APIRouter()

    async def answer(request: Request) -> Response:
        return Response()

    for path in paths:
        router.get(path)(answer)
    return router


@pytest.mark.parametrize(
    ("ordinary", "fast"),
    [
        ([], ["/v1/petitions/{petition}/count", "/v1/groups/{group}/count"]),
        (["/v1/petitions/all/count"], ["/v1/petitions/{petition}/count"]),
        (["/v1/petitions/{petition}/count"], ["/v1/petitions/{petition}/count"]),
        (["/v1/petitions/{petition}/{thing}"], ["/v1/petitions/{petition}/count"]),
        ([], ["/v1/petitions/{petition}"]),
    ],
)
def test_a_route_that_would_shadow_another_fails_at_start(ordinary: list[str], fast: list[str]) -> None:
    api, lane = FastAPI(), _router(*fast)
    api.include_router(_router(*ordinary))
    api.include_router(lane)
    with pytest.raises(FastLaneConflictError):
        FastLane(api, [lane])


def test_routes_that_end_alike_and_are_not_met_by_it_are_left_alone() -> None:
    api, lane = FastAPI(), _router("/v1/petitions/{petition}/count")
    api.include_router(_router("/v1/groups/{group}/count", "/count"))
    api.include_router(lane)
    FastLane(api, [lane])
