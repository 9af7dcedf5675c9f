"""Every answer carries its request id and the security headers; no failure tells or logs what it met."""

import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator

import httpx
import pytest
import structlog
from fastapi.responses import StreamingResponse
from pydantic import SecretStr
from sqlalchemy import text

from app.kit import logs
from app.kit.database.session import Session
from app.kit.metrics import exposition
from app.kit.web.health import Health
from app.main import create_api, wrap_middleware
from app.organizations.models import Organization
from tests.support.api_surface import House, problem_of
from tests.support.application import serving
from tests.support.factories import insert_petition, person

ALWAYS = {
    "x-content-type-options": "nosniff",
    "strict-transport-security": "max-age=31536000; includeSubDomains",
}
SECRET = "amina.okello@example.org"


def _dressed(answer: httpx.Response) -> str:
    """The request id, once it is shown that the answer wears everything, and nothing twice."""
    for name, value in ALWAYS.items():
        assert answer.headers.get_list(name) == [value], name
    (policy,) = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith("; frame-ancestors 'none'") or policy == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in answer.headers
    assert len(answer.headers["x-request-id"]) == 16
    return answer.headers["x-request-id"]


async def test_every_kind_of_answer_is_dressed(house: House) -> None:
    await insert_petition(house.database, "dressed")
    at, get = "/v1/petitions/dressed", house.client.get
    signed = await house.client.post(f"{at}/signatures", json=person(1))
    tag = (await get(f"{at}/count")).headers["etag"]
    answers = {
        200: await get("/v1/campaigns"),
        201: signed,
        304: await get(f"{at}/count", headers={"If-None-Match": tag}),
        401: await house.client.post("/v1/campaigns", json={}),
        403: await house.client.post("/v1/campaigns", json={}, headers=house.keys["analyst"]),
        404: await get("/v1/nowhere"),
        405: await house.client.delete("/v1/campaigns"),
        415: await house.client.post(f"{at}/signatures", content=b"x"),
        422: await house.client.post(f"{at}/signatures", json={}),
    }
    others = [await get(path) for path in ("/readyz", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/%00")]
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    given = [_dressed(answer) for answer in [*answers.values(), *others]]
    assert len(set(given)) == len(given)


async def test_a_request_id_of_the_client_is_not_taken_over(house: House) -> None:
    answer = await house.client.get("/healthz", headers={"X-Request-Id": "0123456789abcdef"})
    assert answer.headers["x-request-id"] != "0123456789abcdef"


async def test_pages_for_people_load_nothing_from_elsewhere(house: House) -> None:
    page = await house.client.get("/docs")
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    for path in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        assert (await house.client.get(f"/docs/{path}")).status_code == 200
    described = await house.client.get("/openapi.json")
    assert described.json() == house.api.openapi()


@pytest.fixture
async def broken(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """A service whose routes fail in every way there is, quoting personal data while they do."""
    api = create_api(house.settings)
    api.state.services = house.api.state.services

    @api.get("/broken/raise")
    async def fail() -> None:
        raise RuntimeError(SECRET)

    @api.get("/broken/group")
    async def fail_together() -> None:
        raise ExceptionGroup(SECRET, [ValueError(SECRET), KeyError(SECRET)])

    @api.get("/broken/chain")
    async def fail_twice() -> None:
        raise RuntimeError(SECRET) from ValueError(SECRET)

    @api.get("/broken/statement")
    async def ask_nonsense(session: Session) -> None:
        await session.execute(text("SELECT CAST(:value AS text)::integer"), {"value": SECRET})

    @api.get("/broken/rule")
    async def break_a_rule(session: Session) -> None:
        session.add(Organization(slug=SECRET, name=SECRET, kind="none of them"))

    @api.get("/broken/answer", response_model=Health)
    async def answer_wrongly() -> dict[str, str]:
        return {"status": SECRET}

    @api.get("/broken/stream")
    async def stop_halfway() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise RuntimeError(SECRET)

        return StreamingResponse(parts())

    transport = httpx.ASGITransport(app=wrap_middleware(api, house.settings), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://multitude.test") as client:
        yield client


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """What the service writes when it is configured as in production."""
    written = io.StringIO()
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.setattr(sys, "stderr", written)
    logs.configure("INFO", "json")
    yield written.getvalue
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize("way", ["raise", "group", "chain", "statement", "rule", "answer"])
async def test_a_failure_tells_nothing_and_logs_its_place(
    broken: httpx.AsyncClient, logged: Callable[[], str], way: str
) -> None:
    answer = await broken.get(f"/broken/{way}", headers={"X-Marker": SECRET}, params={"email": SECRET})
    assert answer.status_code == 500
    assert set(problem_of(answer)) == {"type", "title", "status", "request_id"}
    lines = logged()
    assert SECRET not in answer.text + lines
    entry = json.loads(lines)
    assert (entry["event"], entry["route"]) == ("request failed", f"/broken/{way}")
    assert entry["request_id"] == _dressed(answer)
    assert entry["error"]
    assert entry["at"]


async def test_an_answer_that_breaks_off_is_logged_too(broken: httpx.AsyncClient, logged: Callable[[], str]) -> None:
    # The client in this process insists on a whole answer; over a connection it is cut off.
    with pytest.raises(AssertionError):
        await broken.get("/broken/stream")
    lines = logged()
    assert SECRET not in lines
    assert json.loads(lines)["route"] == "/broken/stream"


async def test_failures_are_measured_by_their_route(broken: httpx.AsyncClient) -> None:
    await broken.get("/broken/raise")
    assert 'multitude_requests_total{method="GET",route="/broken/raise",status="500"}' in exposition().decode()


async def test_an_unreachable_database_is_a_503(house: House, logged: Callable[[], str]) -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/nowhere"
    settings = house.settings.model_copy(update={"database_url": SecretStr(url)})
    async with serving(settings) as (_, _, client):
        for path in ("/v1/campaigns", "/v1/petitions/end-the-ban/count", "/readyz"):
            answer = await client.get(path)
            assert problem_of(answer)["status"] == 503
            assert int(answer.headers["retry-after"]) > 0
            _dressed(answer)
        assert (await client.get("/healthz")).status_code == 200
    assert "secret@" not in logged()


async def test_other_origins_are_let_in_by_the_settings_alone(house: House) -> None:
    asking = {"Origin": "https://movement.example", "Access-Control-Request-Method": "POST"}
    assert (await house.client.options("/v1/petitions/x/signatures", headers=asking)).status_code == 405
    settings = house.settings.model_copy(update={"cors_origins": [asking["Origin"]]})
    async with serving(settings) as (_, _, client):
        answer = await client.options("/v1/petitions/x/signatures", headers=asking)
        assert answer.headers["access-control-allow-origin"] == asking["Origin"]
        assert "access-control-allow-credentials" not in answer.headers
        _dressed(answer)
        failed = await client.post("/v1/petitions/x/signatures", headers=asking, content=b"x")
        assert problem_of(failed)["status"] == 415
        assert failed.headers["access-control-allow-origin"] == asking["Origin"]
        stranger = await client.get("/healthz", headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in stranger.headers
