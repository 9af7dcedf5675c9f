"""Posting to addresses of others: to the one that was checked, and with nothing they could make of it."""

import asyncio
import gc
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from app.kit.webhooks import response_handler
from app.kit.webhooks.client import KEPT, Response, WebhookClient
from app.kit.webhooks.egress import Address, EgressPolicy, Target
from app.kit.webhooks.response_handler import MOST_BODY, MOST_RESPONSE, BoundedHandler
from tests.support.certificates import Authority
from tests.support.webhooks import Receiver, http_response, receiving, responses_in_turn

HOST = "hooks.example.org"


async def here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


class Elsewhere(EgressPolicy):
    """Who takes this machine for the public internet, as far as the checks have passed."""

    async def addresses(self, target: Target) -> Sequence[Address]:
        await super().addresses(target)
        return [ip_address("127.0.0.1")]


@asynccontextmanager
async def posting(
    *, seconds: float = 5, tls: ssl.SSLContext | None = None, found: EgressPolicy | None = None
) -> AsyncIterator[WebhookClient]:
    known = found or EgressPolicy(here, loopback=True)
    async with WebhookClient(known, seconds, tls) as out:
        yield out


async def post(receiver: Receiver, *, seconds: float = 5) -> Response:
    async with posting(seconds=seconds) as out:
        return await out.post(receiver.url("/a?b=c"), {"webhook-id": "x"}, b"{}")


async def test_what_is_posted_arrives_as_it_is() -> None:
    async with receiving() as receiver, posting() as out:
        url = receiver.url("/a?b=c", host="localhost")
        got = await out.post(url, {"webhook-id": "x", "accept-encoding": "gzip", "host": "evil"}, b"{}")
        assert (got.status_code, got.body, got.error) == (200, b"ok", None)
        (one,) = receiver.received
    assert one.line == "POST /a?b=c HTTP/1.1"
    assert one.body == b"{}"
    assert one.headers == {
        "host": f"localhost:{receiver.port}",
        "webhook-id": "x",
        "content-length": "2",
        "accept-encoding": "identity",
    }


@pytest.mark.parametrize(
    "path", ["/a/../b/./c?x=../", "/%zz?%", "/a//b/", "/?'", "/x?", "/;a=@b", "/%2e%2E/a", "/a'b(c)"]
)
async def test_the_path_is_sent_as_it_was_given(path: str) -> None:
    async with receiving() as receiver, posting() as out:
        assert (await out.post(receiver.url(path), {}, b"")).error is None
    assert receiver.received[0].line == f"POST {path} HTTP/1.1"


@pytest.mark.parametrize("url", ["https://xn--a/", "https://xn--bcher-kva.a_b.example/", "https://[::1", "", "\ud800"])
async def test_what_cannot_be_called_is_an_end_and_no_error(url: str) -> None:
    async with posting() as out:
        assert (await out.post(url, {}, b"")).error == "refused-target"


async def test_whatever_goes_wrong_is_an_end_and_no_error() -> None:
    async def broken(host: str, port: int) -> Sequence[str]:
        raise ZeroDivisionError(host, port)

    async with receiving() as receiver, posting(found=EgressPolicy(broken, loopback=True)) as out:
        assert (await out.post(receiver.url(host="localhost"), {}, b"")).error == "connection"
        assert (await out.post(receiver.url(), {"webhook-id": "\ud800"}, b"")).error == "connection"


async def test_connections_are_kept_for_a_while_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver, posting() as out:
        for _ in range(3):
            await out.post(receiver.url(), {}, b"")
        assert receiver.connections == 1
        monkeypatch.setattr(response_handler, "LIFETIME", 0.0)
        await out.post(receiver.url(), {}, b"")
        assert receiver.connections == 2


async def test_a_connection_nobody_needs_any_more_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_handler, "LIFETIME", 0.05)
    async with receiving() as receiver, posting() as out:
        await out.post(receiver.url(), {}, b"")
        async with asyncio.timeout(60):
            await receiver.left.wait()


async def test_a_connection_that_was_closed_meanwhile_is_no_failure() -> None:
    async with receiving() as receiver, posting() as out:
        await out.post(receiver.url(), {}, b"")
        receiver.hang_up()
        assert (await out.post(receiver.url(), {}, b"")).error is None
        assert receiver.connections == 2


async def test_a_connection_closed_in_place_of_an_answer_is_a_failure() -> None:
    async with receiving() as receiver:
        receiver.say = lambda _received: receiver.hang_up()
        assert (await post(receiver)).error == "connection"
        assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with receiving() as other, receiving() as receiver:
        receiver.say = responses_in_turn(http_response(status, b"", f"Location: {other.url()}"))
        got = await post(receiver)
        assert (got.status_code, got.error) == (status, "redirect")
        assert other.received == []
        assert len(receiver.received) == 1


async def test_no_cookie_comes_back_and_no_proxy_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as receiver, posting() as out:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        receiver.say = responses_in_turn(http_response(200, b"", "Set-Cookie: a=b"))
        for _ in range(2):
            assert (await out.post(receiver.url(), {}, b"")).error is None
        assert not any("cookie" in one.headers for one in receiver.received)
        assert proxy.connections == 0


async def test_of_a_long_answer_the_first_bytes_are_read_and_then_no_more() -> None:
    async with receiving(lambda _received: http_response(500, b"x" * 10_000_000)) as receiver:
        got = await post(receiver)
    assert (got.status_code, got.error, got.body) == (500, "status", b"x" * KEPT)


async def test_an_answer_without_an_end_is_cut_off() -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n%b\r\n" % (b"y" * 1024) * 8
    assert len(endless) > MOST_BODY
    async with receiving(lambda _received: endless) as receiver:
        got = await post(receiver)
    assert (got.status_code, got.error, got.body) == (200, None, b"y" * KEPT)


async def test_what_is_compressed_is_not_unpacked() -> None:
    bomb = b"\x1f\x8b" + b"\x00" * 100
    async with receiving(responses_in_turn(http_response(500, bomb, "Content-Encoding: gzip"))) as receiver:
        got = await post(receiver)
    assert (got.status_code, got.error, got.body) == (500, "status", bomb)


async def test_an_answer_that_drips_is_given_up_in_time() -> None:
    async with receiving() as receiver:

        async def drip(*_: object) -> bytes:
            return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na"

        receiver.say = drip
        got = await post(receiver, seconds=0.2)
    assert (got.status_code, got.error) == (None, "timeout")
    assert 0.15 < got.seconds < 3


async def test_no_answer_at_all_is_given_up_in_time() -> None:
    async with receiving(lambda _received: None) as receiver:
        got = await post(receiver, seconds=0.1)
        assert (got.status_code, got.error) == (None, "timeout")


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"SMTP ready\r\n\r\n", "protocol"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", "too-large"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 10_000 + b"\r\n", "too-large"),
    ],
)
async def test_what_is_no_answer_is_a_failure(said: bytes, error: str) -> None:
    async with receiving(lambda _received: said) as receiver:
        assert (await post(receiver)).error == error


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (CHUNKED + b"0\r\nX: ", b"a" * 1000),
        (CHUNKED + b"0\r\n", b"X: a\r\n" * 100),
        (CHUNKED + b"1;", b"a" * 1000),
        (CHUNKED, b"1;" + b"a" * 100 + b"\r\nb\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n" * 100),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
        (b"", b"\r\n" * 500),
    ],
)
async def test_an_answer_that_frames_nothing_without_end_is_ended(head: bytes, piece: bytes, connections: int) -> None:
    taken = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        try:
            await reader.readuntil(b"\r\n\r\n")
            if connections == 2 and taken == 0:
                writer.write(http_response(200))
                await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            while taken < 50 * 1024 * 1024:
                writer.write(piece)
                taken += len(piece)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server, posting() as out:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for _ in range(connections - 1):
            assert (await out.post(url, {}, b"")).error is None
        began = time.process_time()
        assert (await out.post(url, {}, b"")).error == "too-large"
        # Of work, whatever else the machine does.
        assert time.process_time() - began < 2
    # What the sockets hold comes on top of what was looked at.
    assert MOST_RESPONSE < taken < 20 * 1024 * 1024


POISONS = [
    b"HTTP/1.1 204 No Content\r\n\r\nok",
    b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * 2,
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + http_response(500, b"x" * 100_000),
]


@pytest.mark.parametrize("said", POISONS)
async def test_what_follows_an_answer_is_not_the_next_one(said: bytes) -> None:
    async with receiving(lambda _received: said) as receiver, posting() as out:
        ends = [await out.post(receiver.url(), {}, b"") for _ in range(5)]
        assert [end.status_code for end in ends] == [int(said[9:12])] * 5
        assert {end.body for end in ends} <= {b"", b"ok"}
        assert (len(receiver.received), receiver.connections) == (5, 5)


async def test_what_is_left_over_of_an_answer_is_not_the_next_one() -> None:
    async with (
        receiving(responses_in_turn(b"HTTP/1.1 204 No Content\r\n\r\n", b"ok" + http_response(204))) as receiver,
        posting() as out,
    ):
        for _ in range(2):
            assert (await out.post(receiver.url(), {}, b"")).error is None
        assert (len(receiver.received), receiver.connections) == (3, 2)


@pytest.mark.parametrize("said", POISONS[:2])
async def test_where_an_answer_is_cut_on_its_way_makes_no_difference(said: bytes) -> None:
    end = 0

    async def in_two(_received: object) -> bytes:
        for writer in receiver._writers:
            writer.write(said[:end])
        await asyncio.sleep(0.005)
        return said[end:]

    async with receiving(in_two) as receiver, posting() as out:
        for end in range(len(said)):
            got = await out.post(receiver.url(), {}, b"")
            assert (got.status_code, got.error) == (204, None), end


@pytest.mark.parametrize("said", POISONS[:-1])
async def test_what_follows_an_answer_later_is_not_the_next_one(said: bytes) -> None:
    """Wherever it is cut: the head alone, or the whole answer, may have been read before the rest comes."""
    end = 0

    async def in_two(_received: object) -> bytes:
        for writer in receiver._writers:
            writer.write(said[:end])
        await asyncio.sleep(0.005)
        return said[end:]

    async with receiving(in_two) as receiver, posting() as out:
        for end in range(0, len(said), 3):
            got = await out.post(receiver.url(), {}, b"")
            assert (got.status_code, got.body in {b"", b"ok"}) == (int(said[9:12]), True), end
            assert len(receiver.received) - receiver.connections <= 1, end


async def test_a_body_without_an_end_of_its_own_that_a_reset_cuts_is_a_failure() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npartial")
        await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server, posting() as out:
        got = await out.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"")
        assert got.error == "connection"


async def test_what_comes_unasked_is_not_the_next_answer() -> None:
    async with receiving() as receiver, posting() as out:
        await out.post(receiver.url(), {}, b"")
        for writer in receiver._writers:
            writer.write(http_response(500, b"unasked"))
        async with asyncio.timeout(60):
            await receiver.left.wait()
        assert (await out.post(receiver.url(), {}, b"")).status_code == 200
        assert (len(receiver.received), receiver.connections) == (2, 2)


async def test_what_was_closed_in_place_of_an_answer_is_sent_once_more_and_no_more() -> None:
    async with receiving() as receiver, posting() as out:
        await asyncio.gather(*(out.post(receiver.url(), {}, b"") for _ in range(3)))
        assert receiver.connections == 3
        receiver.say = lambda _received: receiver.hang_up()
        assert (await out.post(receiver.url(), {}, b"")).error == "connection"
        assert len(receiver.received) == 3 + 2


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", "connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", "connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n", "protocol"),
    ],
)
async def test_a_body_that_is_cut_off_is_a_failure(said: bytes, error: str) -> None:
    async with receiving() as receiver:

        async def cut(*_: object) -> bytes:
            asyncio.get_running_loop().call_later(0.05, lambda: [w.close() for w in receiver._writers])
            return said

        receiver.say = cut
        got = await post(receiver)
        assert (got.status_code, got.error) == (None, error)


def _alive() -> int:
    gc.collect()
    return sum(isinstance(one, BoundedHandler) for one in gc.get_objects())


async def test_a_connection_that_was_closed_is_forgotten(authority: Authority) -> None:
    said, found = http_response(200, b"ok", "Connection: close"), Elsewhere(Rebinding("1.1.1.1"))
    async with (
        receiving(lambda _received: said, tls=authority.serving(HOST)) as far,
        receiving(lambda _received: said) as near,
        posting(tls=authority.trusting(), found=found) as safe,
        posting() as plain,
    ):
        for _ in range(10):
            assert (await safe.post(f"https://{HOST}:{far.port}/", {}, b"")).error is None
            assert (await plain.post(near.url(), {}, b"")).error is None
        async with asyncio.timeout(60):
            while _alive():  # noqa: ASYNC110 - nobody tells when an object goes
                await asyncio.sleep(0.01)
        assert _alive() == 0


async def test_an_answer_may_be_announced_or_end_with_its_connection() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"
    async with receiving(lambda _received: early) as receiver, posting() as out:
        assert (await out.post(receiver.url(), {}, b"")).status_code == 204
        assert (await out.post(receiver.url(), {}, b"")).status_code == 204
        assert receiver.connections == 1
    async with receiving() as receiver:

        async def old(*_: object) -> bytes:
            asyncio.get_running_loop().call_later(0.05, lambda: [w.close() for w in receiver._writers])
            return b"HTTP/1.0 200 OK\r\n\r\nfine"

        receiver.say = old
        got = await post(receiver)
        assert (got.status_code, got.body, got.error) == (200, b"fine", None)


async def test_nobody_who_listens_is_a_failed_connection() -> None:
    async with receiving() as receiver:
        url = receiver.url()
    async with posting() as out:
        assert (await out.post(url, {}, b"")).error == "connection"


async def test_a_header_cannot_be_smuggled_in() -> None:
    async with receiving() as receiver, posting() as out:
        assert (await out.post(receiver.url(), {"webhook-id": "x\r\nevil: y"}, b"")).error == "protocol"
        assert receiver.received == []


class Rebinding:
    """A name that is public when it is looked at first, and private afterwards."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        assert (host, port) == (HOST, 443) or port > 1024
        self.asked += 1
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


async def test_a_name_is_resolved_once_and_that_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    rebinding, connected = Rebinding("1.1.1.1", "127.0.0.1"), []

    async def note(loop: object, make: object, host: str, port: int, **_: object) -> None:
        connected.append(host)
        raise ConnectionRefusedError

    monkeypatch.setattr(type(asyncio.get_running_loop()), "create_connection", note)
    async with posting(found=EgressPolicy(rebinding)) as out:
        assert (await out.post(f"https://{HOST}/", {}, b"")).error == "connection"
        assert (rebinding.asked, connected) == (1, ["1.1.1.1"])
        # It is looked at anew for every new connection.
        assert (await out.post(f"https://{HOST}/", {}, b"")).error == "refused-target"
    assert connected == ["1.1.1.1"]


async def test_a_private_address_is_never_connected_to() -> None:
    async with receiving() as receiver:
        async with posting(found=EgressPolicy(here)) as out:
            got = await out.post(f"https://{HOST}:{receiver.port}/", {}, b"")
        assert got.error == "refused-target"
        assert receiver.connections == 0


async def test_a_name_server_that_hangs_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    async with posting(seconds=0.1, found=EgressPolicy(hang)) as out:
        assert (await out.post(f"https://{HOST}/", {}, b"")).error == "timeout"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def _over_tls(authority: Authority, shown: str, tls: ssl.SSLContext | None) -> tuple[Response, Receiver]:
    found = Elsewhere(Rebinding("1.1.1.1"))
    async with receiving(tls=authority.serving(shown)) as receiver, posting(tls=tls, found=found) as out:
        return await out.post(f"https://{HOST}:{receiver.port}/x", {}, b"{}"), receiver


async def test_the_certificate_must_be_the_hosts(authority: Authority) -> None:
    got, receiver = await _over_tls(authority, HOST, authority.trusting())
    assert (got.error, got.status_code) == (None, 200)
    assert receiver.received[0].headers["host"] == f"{HOST}:{receiver.port}"
    got, receiver = await _over_tls(authority, "other.example.org", authority.trusting())
    assert (got.error, receiver.received) == ("tls", [])


async def test_a_certificate_nobody_vouches_for_is_refused(authority: Authority) -> None:
    got, receiver = await _over_tls(authority, HOST, None)
    assert (got.error, receiver.received) == ("tls", [])


async def test_the_next_address_is_tried_when_one_does_not_take_it() -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with receiving() as receiver, posting(found=EgressPolicy(both, loopback=True)) as out:
        assert (await out.post(receiver.url(host="localhost"), {}, b"")).error is None
