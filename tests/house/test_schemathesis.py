"""Whatever the committed description allows or forbids is sent to a real server: no answer is a failure of ours."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings

from app.kit.database.session import Database
from app.main import create_api, wrap_middleware
from app.organizations.queries import find
from app.organizations.service import create_key
from app.serving.server import options
from app.settings import Settings
from tests.support.factories import insert_petition

pytestmark = pytest.mark.slow


EXAMPLES = 25
CONFIG = schemathesis.Config.from_dict({"generation": {"max-examples": EXAMPLES, "database": "none"}})
DESCRIPTION = json.loads((Path(__file__).parents[2] / "openapi" / "openapi.json").read_text(encoding="utf-8"))
# A stream does not end by itself; `tests/signatures` listens to it.
SERVICE = schemathesis.openapi.from_dict(DESCRIPTION, config=CONFIG).exclude(path_regex="/stream$")
# Without a key all others answer 401 to anything (`test_roles.py`).
PUBLIC = SERVICE.include(lambda context: {} in context.operation.definition.raw.get("security", [{}]))
# No schema says that a cursor must be one we gave or that a petition is open, so what fits may still be refused; and a
# query parameter that nobody knows is passed over, so what does not fit may still be answered.
LEFT_OUT = schemathesis.checks.CHECKS.get_by_names(["positive_data_acceptance", "negative_data_rejection"])
# One petition for those who sign, another for those who close and archive it.
KNOWN = {"petition": "end-the-ban", "campaign": "campaign-of-end-the-ban", "organization": "sisters-of-kampala"}


@schemathesis.serializer("application/x-ndjson", "application/jsonl")
def _lines(_context: Any, value: object) -> bytes:
    """Lines are described as a text."""
    return str(value).encode("utf-8", "surrogatepass")


async def _furnish(url: str) -> str:
    """Something to find; the key of an owner."""
    database = Database(url, name="schemathesis")
    for slug in ("end-the-ban", "repeal-the-act"):
        await insert_petition(database, slug)
    async with database.transaction() as session:
        movement = await find(session, "movement")
        assert movement is not None
        _, key = await create_key(session, movement, "owner")
    await database.close()
    return key


class Served:
    """The service on a port of this machine, an owner's key, and a connection."""

    def __init__(self, url: str) -> None:
        settings = Settings.model_validate(
            {"database_url": url, "secret_keys": "a-secret-that-is-only-for-tests-0001", "log_level": "ERROR"}
        )
        self.owner = {"Authorization": f"Bearer {asyncio.run(_furnish(url))}"}
        config = uvicorn.Config(wrap_middleware(create_api(settings), settings), **options(settings, "127.0.0.1", 0))
        self.server = uvicorn.Server(config)
        self.socket = config.bind_socket()
        # Whoever connects before the server is ready waits.
        self.socket.listen()
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.connection = requests.Session()
        # Otherwise each request looks through the whole environment for a proxy.
        self.connection.trust_env = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"


@pytest.fixture(scope="module")
def served(house_url: str) -> Iterator[Served]:
    """The service on a port of its own, as `multitude serve` runs it."""
    served = Served(house_url)
    served.thread.start()
    yield served
    served.connection.close()
    served.server.should_exit = True
    served.thread.join()
    served.socket.close()


def _known(case: Any) -> dict[str, str]:
    """The case's path, every other one leading to something that is there."""
    signs = any(word in case.path for word in ("signatures", "withdrawals", "count", "tally"))
    names = KNOWN | ({} if signs else {"petition": "repeal-the-act"})
    chosen = {name: value for name, value in case.path_parameters.items() if len(str(value)) % 2}
    return {name: names[name] for name in chosen if name in names}


def _check(case: Any, served: Served, headers: dict[str, str]) -> None:
    case.path_parameters.update(_known(case))
    answer = case.call(base_url=served.url, session=served.connection, headers=headers, timeout=10)
    case.validate_response(answer, excluded_checks=LEFT_OUT)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"]
        assert set(answer.json()) >= {"type", "title", "status", "request_id"}


@SERVICE.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_an_owner_may_send_anything(case: Any, served: Served) -> None:
    _check(case, served, served.owner)


@PUBLIC.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_stranger_may_send_anything(case: Any, served: Served) -> None:
    _check(case, served, {})
