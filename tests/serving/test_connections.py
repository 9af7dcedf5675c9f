"""What a stranger's connections can take up is bounded: a raw socket against the running service, as operators run it.

On the code before, each of these stopped the service, or took up memory for as long as the stranger liked.
"""

import json
import re
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.serving.conftest import FEW, Serve
from tests.support.factories import person
from tests.support.raw_http import (
    ALIVE,
    MEBIBYTE,
    asked,
    connect,
    is_closed,
    memory,
    opened,
    read_all,
    read_answer,
    send_as_far_as_read,
    wait_for,
)
from tests.support.services import Server

pytestmark = pytest.mark.process

AT = "/v1/petitions/end-the-ban"
STREAM = f"GET {AT}/stream HTTP/1.1\r\nHost: multitude.test\r\n\r\n".encode()
HALF = b"GET /healthz HTTP/1.1\r\nHost: multitude.test\r\nX-"
BODYLESS = f"POST {AT}/signatures HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n".encode()
# 127.0.0.1 would have any number of connections by default.
COUNTED = {"MULTITUDE_UNCOUNTED_NETWORKS": "192.0.2.1/32"}


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """The other side needs as many descriptors as the server."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def signing(number: int) -> bytes:
    body = json.dumps(person(number)).encode()
    head = f"POST {AT}/signatures HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def logged(server: Server) -> list[dict[str, object]]:
    return [json.loads(line) for line in server.errors().splitlines()]


def refusals(server: Server) -> dict[object, int]:
    """How many refusals were told, by reason."""
    lines = [line for line in logged(server) if line["event"] == "connection refused"]
    assert "127.0.0" not in json.dumps(lines)
    return {line["reason"]: int(str(line["count"])) for line in lines}


@pytest.mark.parametrize("sent", [b"", HALF, BODYLESS], ids=["idle", "half a head", "no body"])
def test_connections_that_only_wait_keep_nobody_out(cramped: Server, sent: bytes) -> None:
    with opened(cramped.port, 2 * FEW, sent) as connections:
        # A newcomer takes the place of whoever has waited longest.
        for number in range(3):
            assert asked(cramped.port).status == 200
            assert asked(cramped.port, signing(number)).status == 201
        wait_for(lambda: is_closed(connections[0]))
    assert "evicted" in refusals(cramped)


def test_streams_leave_places_for_everybody_else(cramped: Server) -> None:
    with opened(cramped.port, 2 * FEW, STREAM) as connections:
        assert read_answer(connections[0]).status == 200
        wait_for(lambda: asked(cramped.port, STREAM).status == 503)
        assert asked(cramped.port).status == 200
        assert asked(cramped.port, signing(1)).status == 201


def test_descriptors_are_raised_and_told(cramped: Server) -> None:
    (told,) = [line for line in logged(cramped) if line["event"] == "serving"]
    assert (told["descriptors"], told["connections"], told["streams"]) == (
        FEW,
        FEW - FEW // 4,
        (FEW - FEW // 4) * 3 // 4,
    )
    assert any(str(line["event"]).startswith("few file descriptors") for line in logged(cramped))


@pytest.mark.parametrize("sent", [b"", HALF, BODYLESS], ids=["idle", "half a head", "no body"])
def test_what_does_not_come_in_time_is_not_waited_for(hasty: Server, sent: bytes) -> None:
    with connect(hasty.port) as connection:
        connection.sendall(sent)
        answer = read_answer(connection)
        assert answer.status == (408 if sent else 0)
        if sent:
            assert b"application/problem+json" in answer.head
            told = json.loads(answer.body)
            assert (told["type"], told["status"]) == ("urn:multitude:problem:too-slow", 408)
            assert told["request_id"].encode() in answer.head
        assert connection.recv(1) == b""


@pytest.mark.parametrize("sent", [HALF, BODYLESS, b"\r\n"], ids=["head", "body", "blank lines"])
def test_a_byte_now_and_then_moves_no_deadline(hasty: Server, sent: bytes) -> None:
    with connect(hasty.port) as connection:
        # On a connection that has been used, too.
        connection.sendall(ALIVE)
        assert read_answer(connection).status == 200
        connection.sendall(sent)
        connection.settimeout(0.2)
        answer = b""
        for _ in range(100):
            try:
                connection.sendall(sent[-1:] if sent == b"\r\n" else b"a")
                answer += connection.recv(65536)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("it is still waited for")
        assert answer[:12] in {b"", b"HTTP/1.1 408"}


def test_a_used_connection_is_closed_when_nothing_more_is_asked(hasty: Server) -> None:
    with connect(hasty.port) as connection:
        for _ in range(3):
            connection.sendall(ALIVE)
            assert read_answer(connection).status == 200
        assert connection.recv(1) == b""
    assert not refusals(hasty).keys() - {"too-slow"}


@pytest.mark.parametrize("part", [b"a" * MEBIBYTE, b"X-Header: value\r\n" * 65_536], ids=["one line", "many lines"])
def test_a_head_without_end_takes_no_memory(service: Server, part: bytes) -> None:
    before = memory(service)
    with connect(service.port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        assert send_as_far_as_read(connection, part, 120 * MEBIBYTE) < 20 * MEBIBYTE
        connection.settimeout(10)
        assert read_all(connection)[:12] in {b"HTTP/1.1 431", b""}
    assert memory(service) < before + 20
    assert "headers-too-large" in refusals(service)


def test_a_head_may_be_as_large_as_the_setting_says(serve: Serve) -> None:
    server = serve(MULTITUDE_MAX_HEADER_BYTES="2048")
    start = b"GET /healthz HTTP/1.1\r\nX-Long: "
    for size, status in ((2048, 200), (2049, 431)):
        answer = asked(server.port, start + b"a" * (size - len(start) - 4) + b"\r\n\r\n")
        assert answer.status == status, size
    assert json.loads(answer.body)["type"] == "urn:multitude:problem:headers-too-large"


@pytest.mark.parametrize("trailer", [b"X: " + b"a" * MEBIBYTE, b"X-Trailer: value\r\n" * 65_536], ids=["one", "many"])
def test_what_follows_the_last_chunk_takes_no_memory(service: Server, trailer: bytes) -> None:
    before = memory(service)
    with connect(service.port) as connection:
        connection.sendall(b"POST /v1/sign-ins HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        assert send_as_far_as_read(connection, trailer, 60 * MEBIBYTE) < 20 * MEBIBYTE
    assert memory(service) < before + 20


def test_requests_ahead_of_their_turn_take_no_memory(service: Server) -> None:
    before = memory(service)
    with connect(service.port) as connection:
        connection.sendall(STREAM)
        assert read_answer(connection).status == 200
        assert send_as_far_as_read(connection, ALIVE * 20_000, 30 * MEBIBYTE) < 20 * MEBIBYTE
        assert memory(service) < before + 20
        assert asked(service.port).status == 200
    assert memory(service) < before + 20


@pytest.mark.parametrize("line", [b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /healthz\r\n\r\n"], ids=["1.1", "0.9"])
def test_a_flood_of_small_requests_takes_no_memory(service: Server, line: bytes) -> None:
    before = memory(service)
    with connect(service.port) as connection:
        send_as_far_as_read(connection, line * 50_000, 30 * MEBIBYTE)
        assert memory(service) < before + 30
        assert asked(service.port).status == 200


def test_requests_sent_together_are_answered_in_order(service: Server) -> None:
    # The words of a request line, in a body, too; and cut at every place.
    body = json.dumps(person(1, comment="GET / HTTP/1.1 " * 20)).encode()
    head = f"POST {AT}/signatures HTTP/1.1\r\nContent-Type: application/json\r\n"
    whole = b"".join(
        [
            ALIVE,
            f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body,
            f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
            b"GET /nowhere HTTP/1.1\r\n\r\n",
            b"GET /readyz HTTP/1.1\r\nConnection: close\r\n\r\n",
        ]
    )
    statuses = [b"200", b"201", b"201", b"404", b"200"]
    for size in (len(whole), 1000, 301, 97, 7):
        with connect(service.port) as connection:
            for begin in range(0, len(whole), size):
                connection.sendall(whole[begin : begin + size])
            told = read_all(connection)
        assert re.findall(rb"HTTP/1\.1 (\d{3}) ", told) == statuses, size


def test_a_client_has_so_many_connections_and_others_are_served(serve: Serve) -> None:
    server = serve(MULTITUDE_CONNECTIONS_PER_CLIENT="20", **COUNTED)
    with opened(server.port, 20, STREAM) as streams:
        for stream in streams:
            assert read_answer(stream).status == 200
        refused = asked(server.port)
        assert (refused.status, json.loads(refused.body)["type"]) == (429, "urn:multitude:problem:too-many-connections")
        assert b"retry-after: " in refused.head
        assert asked(server.port, source="127.0.0.2").status == 200
        for _ in range(30):
            asked(server.port)
    # One line in a minute, without the address.
    assert refusals(server) == {"too-many-connections": 1}
    wait_for(lambda: asked(server.port).status == 200)


def test_a_crowd_behind_one_address_shares_its_connections(serve: Serve) -> None:
    server = serve(MULTITUDE_CONNECTIONS_PER_CLIENT="20", **COUNTED)
    with opened(server.port, 19, STREAM) as streams, opened(server.port, 100) as idle:
        assert read_answer(streams[0]).status == 200
        wait_for(lambda: is_closed(idle[0]))
        # Each is answered in the place of one that only waits.
        for number in range(30):
            assert asked(server.port, signing(number)).status == 201


def test_a_client_has_so_many_streams_and_others_have_theirs(serve: Serve) -> None:
    server = serve(MULTITUDE_STREAMS_PER_CLIENT="3", **COUNTED, MULTITUDE_TRUSTED_PROXIES="127.0.0.9/32")

    def by_proxy(client: str) -> bytes:
        return STREAM.replace(b"Host:", f"X-Forwarded-For: {client}\r\nHost:".encode())

    with opened(server.port, 3, STREAM) as streams:
        for stream in streams:
            assert read_answer(stream).status == 200
        refused = asked(server.port, STREAM)
        assert (refused.status, json.loads(refused.body)["type"]) == (503, "urn:multitude:problem:too-many-streams")
        assert asked(server.port, STREAM, source="127.0.0.2").status == 200
    wait_for(lambda: asked(server.port, STREAM).status == 200)
    # Behind a proxy that is trusted it is the client that counts, and an IPv6 client is its network.
    with opened(server.port, 3, by_proxy("2001:db8::1"), source="127.0.0.9") as streams:
        assert read_answer(streams[2]).status == 200
        assert asked(server.port, by_proxy("2001:db8::2"), source="127.0.0.9").status == 503
        assert asked(server.port, by_proxy("2001:db8:0:1::1"), source="127.0.0.9").status == 200


def test_when_every_place_is_taken_it_is_still_told_how_we_are(serve: Serve) -> None:
    server = serve(MULTITUDE_CONNECTION_LIMIT="4")
    with opened(server.port, 3, STREAM) as streams:
        assert [read_answer(stream).status for stream in streams] == [200, 200, 200]
        # Streams have three of four places.
        assert asked(server.port, STREAM).status == 503
        assert asked(server.port).status == 200
    with opened(server.port, 30, STREAM):
        assert asked(server.port).status == 200
        assert asked(server.port, b"GET /readyz HTTP/1.1\r\n\r\n").status == 200


def test_what_cannot_be_read_is_a_problem_and_logged_once(service: Server) -> None:
    for _ in range(5):
        answer = asked(service.port, b"nonsense\r\n\r\n")
        assert (answer.status, json.loads(answer.body)["type"]) == (400, "urn:multitude:problem:bad-request")
    upgrade = b"GET /healthz HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert asked(service.port, upgrade).status == 200
    told = [line for line in logged(service) if line["level"] != "info"]
    assert {line["event"] for line in told} == {"connection refused"}
    assert [line["count"] for line in told if line["reason"] == "bad-request"] == [1]


def test_an_answer_nobody_reads_does_not_hold_up_others(cramped: Server) -> None:
    with opened(cramped.port, 20) as connections:
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n\r\n")
        assert asked(cramped.port).status == 200
        assert asked(cramped.port, signing(1)).status == 201
