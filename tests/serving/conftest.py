"""The service as operators run it, on a database of the file's own, with settings of the test's own."""

import asyncio
import shlex
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import uuid4

import pytest

from app.kit.database.session import Database
from tests.support.factories import insert_petition
from tests.support.postgres import Cluster
from tests.support.services import Server, free_port, multitude
from tests.support.settings import SECRET_KEYS

Serve = Callable[..., Server]
FEW = 512


@pytest.fixture(scope="module")
def served_url(cluster: Cluster, template: str) -> Iterator[str]:
    """A database with an open petition, `end-the-ban`."""

    async def plant(url: str) -> None:
        database = Database(url, name="plant")
        await insert_petition(database)
        await database.close()

    with cluster.fresh(f"serving_{uuid4().hex[:12]}", template) as database:
        asyncio.run(plant(database.url))
        yield database.url


def server_of(
    url: str, descriptors: int = 10_000, workers: int = 1, metrics_port: str | None = "0", **settings: str
) -> Server:
    """`multitude serve` with these settings, and no more than so many file descriptors; not yet started.

    It shows no metrics, unless a port is set; `metrics_port` None is the default one.
    """
    port = free_port()
    words = shlex.join(multitude("serve", "--port", str(port), "--workers", str(workers)))
    given = {
        "DATABASE_URL": url,
        "MULTITUDE_SECRET_KEYS": SECRET_KEYS,
        "MULTITUDE_LOG_FORMAT": "json",
        **settings,
    }
    if metrics_port is not None:
        given.setdefault("MULTITUDE_METRICS_PORT", metrics_port)
    arguments = ["/bin/sh", "-c", f"ulimit -n {descriptors}; exec {words}"]
    return Server(arguments, port=port, ready="/readyz", settings=given)


@pytest.fixture
def serve(served_url: str) -> Iterator[Serve]:
    """Start the service as `server_of` makes it."""
    with ExitStack() as stack:

        def start(**chosen: object) -> Server:
            server = stack.enter_context(server_of(served_url, **chosen))  # type: ignore[arg-type]
            return server.wait_until_ready()

        yield start


@pytest.fixture(scope="module")
def service(served_url: str) -> Iterator[Server]:
    """The service with its defaults, for all tests of a file."""
    with server_of(served_url) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="module")
def cramped(served_url: str) -> Iterator[Server]:
    """The service with few file descriptors, for all tests of a file."""
    with server_of(served_url, descriptors=FEW) as server:
        yield server.wait_until_ready()


@pytest.fixture(scope="module")
def hasty(served_url: str) -> Iterator[Server]:
    """The service with short deadlines, for all tests of a file."""
    names = ("HEADER", "BODY", "KEEP_ALIVE")
    with server_of(served_url, **{f"MULTITUDE_{name}_SECONDS": "2" for name in names}) as server:
        yield server.wait_until_ready()
