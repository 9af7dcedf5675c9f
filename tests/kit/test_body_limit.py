"""The limit of bodies: a route that reads large ones says so by a mark, and no other is left alone."""

import httpx
from fastapi import APIRouter, FastAPI, Request

from app.kit.web.bodies import BodyLimit, reads_large_body

router = APIRouter()


@router.post("/things/{thing}/large")
@reads_large_body
async def large(request: Request, thing: str) -> int:
    del thing
    return len(await request.body())


@router.post("/things/{thing}/small")
async def small(request: Request, thing: str) -> int:
    del thing
    return len(await request.body())


async def test_only_a_marked_route_reads_more_than_the_limit() -> None:
    api, between = FastAPI(), APIRouter()
    api.add_middleware(BodyLimit, limit=10, routes=api.routes)
    # Included after the middleware was added, and not directly: the routes are looked at when the service starts.
    between.include_router(router, prefix="/v1")
    api.include_router(between)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://test") as client:
        for path, length, status in (
            ("large", 11, 200),
            ("small", 10, 200),
            ("small", 11, 413),
            ("large/more", 11, 404),
        ):
            answer = await client.post(f"/v1/things/x/{path}", content=b"x" * length)
            assert answer.status_code == status
