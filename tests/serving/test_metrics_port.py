"""Metrics stand on a port of their own, which only this machine reaches; the API's port tells none.

On the code before, `/metrics` answered everybody who could reach the API.
"""

import json
import socket
from contextlib import closing

import httpx
import pytest

from tests.serving.conftest import Serve
from tests.support.factories import person
from tests.support.raw_http import wait_for
from tests.support.services import command, free_port, worker

pytestmark = pytest.mark.process

AT = "/v1/petitions/end-the-ban/signatures"


@pytest.mark.parametrize("workers", [1, 2])
def test_metrics_of_all_processes_are_on_their_own_port(serve: Serve, workers: int) -> None:
    port = free_port()
    server = serve(workers=workers, MULTITUDE_METRICS_PORT=str(port))
    assert httpx.get(f"{server.url}/metrics").status_code == 404
    for number in range(6):
        assert httpx.post(server.url + AT, json=person(100 * workers + number)).status_code == 201
    told = httpx.get(f"http://127.0.0.1:{port}/metrics")
    assert told.headers["content-type"].startswith("text/plain; version=")
    assert "multitude_signatures_accepted_total 6.0" in told.text
    for name in (
        f'multitude_requests_total{{method="POST",route="{AT.replace("end-the-ban", "{petition}")}",status="201"}} 6.0',
        "multitude_batch_size_bucket",
        "multitude_commit_seconds_bucket",
        "multitude_queue_depth",
    ):
        assert name in told.text


def test_the_worker_shows_its_own(served_url: str) -> None:
    port = free_port()
    settings = {"DATABASE_URL": served_url, "MULTITUDE_SECRET_KEYS": "a-secret-that-is-only-for-tests-0001"}

    def told() -> str:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics").text
        except httpx.TransportError:
            return ""

    with worker(MULTITUDE_WORKER_METRICS_PORT=str(port), **settings):
        wait_for(lambda: "multitude_sweep_failures_total" in told())


def test_a_port_that_was_chosen_and_is_taken_ends_the_start(served_url: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        settings = {"DATABASE_URL": served_url, "MULTITUDE_SECRET_KEYS": "a-secret-that-is-only-for-tests-0001"}
        done = command("serve", "--port", str(free_port()), MULTITUDE_METRICS_PORT=port, **settings)
        assert (done.returncode, "Set another MULTITUDE_METRICS_PORT" in " ".join(done.stderr.split())) == (1, True)


def test_two_services_on_one_machine_both_serve(serve: Serve) -> None:
    # Both with the default port, which only one can have; or neither, if another program has it.
    servers = [serve(metrics_port=None) for _ in range(2)]
    events = [json.loads(line)["event"] for server in servers for line in server.errors().splitlines()]
    assert "metrics are shown nowhere" in events
