"""Limits count each key by itself, cost the same however many there are, and hold when they cannot be shared."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError
from structlog.testing import capture_logs

from app.kit.abuse import valkey
from app.kit.abuse.rate_limits import Limiter, MemoryStorage, TooManyRequests, open_limiter
from app.settings import Settings

Result = TypeVar("Result")
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
URL = "postgresql://nobody@127.0.0.1:1/nothing"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


def at_once(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """What a coroutine returns that waits for nothing; a test that used this on one that waits would fail."""
    try:
        coroutine.send(None)
    except StopIteration as returned:
        result: Result = returned.value
        return result
    raise AssertionError("it waited")


def settings(**values: object) -> Settings:
    return Settings.model_validate({"database_url": URL, **values})


async def test_what_is_within_the_limit_passes_and_what_is_over_it_does_not() -> None:
    limiter = Limiter(MemoryStorage())
    assert [await limiter.hit("3 per minute", "address", "a") for _ in range(5)] == [True] * 3 + [False] * 2


async def test_keys_and_limits_are_counted_apart() -> None:
    limiter = Limiter(MemoryStorage())
    for limit, names in [("1/minute", "a"), ("1/minute", "b"), ("1/hour", "a"), ("2/minute", "a")]:
        assert await limiter.hit(limit, "address", names)
    assert await limiter.hit("1/minute", "email", "a")
    assert not await limiter.hit("1/minute", "address", "a")


async def test_a_digest_is_a_name_as_it_is() -> None:
    limiter = Limiter(MemoryStorage())
    assert await limiter.hit("1/minute", b"\xff\x00/")
    assert not await limiter.hit("1/minute", b"\xff\x00/")
    assert await limiter.hit("1/minute", b"\xff\x01/")


async def hit_a_client_and_its_network(limiter: Limiter) -> None:
    async def hit(client: str) -> bool:
        return await limiter.hit_in_turn([("2 per hour", ("x", client)), ("5 per hour", ("x", b"network"))])

    # The third hit of `a` counts against nobody else: three are left for the network, of which `b` takes two.
    assert [await hit(client) for client in "aaabbbcc"] == [True, True, False, True, True, False, True, False]
    assert not await limiter.hit("2 per hour", "x", "a"), "it is the same count"


async def test_limits_in_turn_are_counted_up_to_the_first_that_is_passed() -> None:
    await hit_a_client_and_its_network(Limiter(MemoryStorage()))


async def test_a_window_ends_after_its_length_from_the_first_hit() -> None:
    clock = Clock()
    limiter = Limiter(MemoryStorage(clock=clock))
    assert await limiter.hit("1 per 10 minutes", "a")
    clock.moment += 599.9
    assert not await limiter.hit("1 per 10 minutes", "a")
    clock.moment += 0.1
    assert await limiter.hit("1 per 10 minutes", "a")
    clock.moment += 599.9
    assert not await limiter.hit("1 per 10 minutes", "a")


LIMITS = {"1 per 10 seconds": (1, 10), "3 per 10 seconds": (3, 10), "2 per 1 minute": (2, 60)}


@example(
    [
        ("a", "1 per 10 seconds", 0),
        ("b", "1 per 10 seconds", 0),
        ("c", "1 per 10 seconds", 0),
        ("c", "1 per 10 seconds", 10),
    ]
)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(sorted(LIMITS)), st.integers(0, 15))))
def test_any_hits_at_any_times_are_counted_as_the_rule_says(hits: list[tuple[str, str, int]]) -> None:
    clock = Clock()
    limiter = Limiter(MemoryStorage(clock=clock))
    windows: dict[tuple[str, str], tuple[float, int]] = {}
    for name, limit, pause in hits:
        clock.moment += pause
        most, length = LIMITS[limit]
        began, count = windows.get((name, limit), (clock.moment, 0))
        if clock.moment >= began + length:
            began, count = clock.moment, 0
        windows[name, limit] = (began, count + 1)
        assert at_once(limiter.hit(limit, name)) == (count < most)


async def test_memory_is_bounded_and_the_oldest_is_forgotten_first() -> None:
    memory = MemoryStorage(most_keys=100)
    limiter = Limiter(memory)
    for number in range(1000):
        await limiter.hit("1/minute", str(number))
        assert len(memory) <= 100
    assert not await limiter.hit("1/minute", "999")
    assert await limiter.hit("1/minute", "0")


async def test_many_keys_of_one_limit_do_not_push_out_those_of_a_longer_one() -> None:
    limiter = Limiter(MemoryStorage(most_keys=10))
    assert await limiter.hit("1 per 11 minutes", "used")
    for number in range(1000):
        await limiter.hit("1 per 10 minutes", str(number))
    assert not await limiter.hit("1 per 11 minutes", "used")


async def test_what_is_over_is_dropped_by_the_hits_that_follow_and_by_nothing_else() -> None:
    clock = Clock()
    memory = MemoryStorage(clock=clock)
    limiter = Limiter(memory)
    for number in range(1000):
        await limiter.hit("1/minute", str(number))
    clock.moment += 60
    tasks = asyncio.all_tasks()
    for number in range(500):
        await limiter.hit("1/minute", f"new {number}")
        assert len(memory) == 999 - number
    assert asyncio.all_tasks() == tasks


async def test_what_is_remembered_can_be_asked_for_and_forgotten() -> None:
    memory = MemoryStorage()
    await memory.incr("a", 60, 2)
    await memory.incr("a", 60)
    await memory.incr("b", 60)
    assert (await memory.get("a"), await memory.get("c")) == (3, 0)
    assert 59 < await memory.get_expiry("a") - await memory.get_expiry("c") <= 60
    await memory.clear("a")
    assert (await memory.get("a"), await memory.get("b"), await memory.check()) == (0, 1, True)
    assert (await memory.reset(), await memory.get("b")) == (1, 0)


class Store:
    """As much of a Redis server as a limiter speaks to: counts for ever, remembers what it was asked."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}
        self.commands: list[list[bytes]] = []
        self.scripts: set[bytes] = set()
        # Seconds for which everybody is kept from everything before a count is answered.
        self.busy = 0.0
        self.hangs_up = False

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            command = [await self._bulk(reader) for _ in range(int(head[1:]))]
            self.commands.append(command)
            if self.hangs_up:
                return
            writer.write(self._answer(command))

    async def _bulk(self, reader: asyncio.StreamReader) -> bytes:
        length = int((await reader.readline())[1:])
        return (await reader.readexactly(length + 2))[:-2]

    def _answer(self, command: list[bytes]) -> bytes:
        if command[:2] == [b"SCRIPT", b"LOAD"]:
            sha = b"0" * 40
            self.scripts.add(sha)
            return b"$40\r\n" + sha + b"\r\n"
        if command[0] != b"EVALSHA":
            return b"+OK\r\n"
        if not self.scripts:
            return b"-NOSCRIPT No matching script.\r\n"
        many = int(command[2])
        keys, arguments = command[3 : 3 + many], command[3 + many :]
        for key, amount in zip(keys, arguments[1::2], strict=True):
            self.counts[key] = self.counts.get(key, 0) + int(amount)
        time.sleep(self.busy)
        return b"*%d\r\n" % many + b"".join(b":%d\r\n" % self.counts[key] for key in keys)


@asynccontextmanager
async def listening(talk: Talk, port: int = 0) -> AsyncIterator[int]:
    """A server on the loopback that talks like this; its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def sharing(url: str) -> AsyncIterator[Limiter]:
    limiter = open_limiter(settings(rate_limit_url=url))
    try:
        yield limiter
    finally:
        await limiter.close()


async def test_processes_share_what_they_count() -> None:
    store = Store()
    async with (
        listening(store.talk) as port,
        sharing(f"redis://127.0.0.1:{port}") as one,
        sharing(f"valkey://127.0.0.1:{port}") as other,
    ):
        hits = [await limiter.hit("3/minute", "address", b"\xff\x01") for limiter in (one, other, one, other, one)]
    assert hits == [True, True, True, False, False]
    assert list(store.counts) == [b"multitude:LIMITER/address/ff01/3/1/minute"]


async def test_limits_in_turn_are_counted_alike_where_they_are_shared() -> None:
    async with listening(Store().talk) as port, sharing(f"redis://127.0.0.1:{port}") as limiter:
        await hit_a_client_and_its_network(limiter)


async def test_a_crowd_asks_a_few_times_and_on_one_connection() -> None:
    store = Store()
    async with listening(store.talk) as port, sharing(f"redis://127.0.0.1:{port}") as limiter:
        hits = await asyncio.gather(*(limiter.hit("2/minute", str(number % 1000)) for number in range(3000)))
    assert (hits.count(True), hits.count(False)) == (2000, 1000)
    asked = [command for command in store.commands if command[0] == b"EVALSHA"]
    assert 6 <= len(asked) <= 10
    assert sum(command[:2] == [b"CLIENT", b"SETINFO"] for command in store.commands) <= 2


async def test_the_address_says_who_we_are_and_which_database() -> None:
    store = Store()
    async with listening(store.talk) as port, sharing(f"redis://movement:hidden@127.0.0.1:{port}/3") as limiter:
        assert await limiter.hit("1/minute", "a")
    assert [b"AUTH", b"movement", b"hidden"] in store.commands
    assert [b"SELECT", b"3"] in store.commands


@pytest.mark.parametrize(
    ("scheme", "first"), [("redis", b"*"), ("valkey", b"*"), ("rediss", b"\x16"), ("valkeys", b"\x16")]
)
async def test_the_scheme_says_whether_it_is_spoken_under_tls(scheme: str, first: bytes) -> None:
    heard: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(1))

    async with listening(hang_up) as port, sharing(f"{scheme}://127.0.0.1:{port}") as limiter:
        await limiter.hit("1/minute", "a")
        assert limiter.degraded
    assert heard[0] == first


async def test_while_the_store_is_not_there_the_process_counts_for_itself() -> None:
    with capture_logs() as logs:
        async with sharing("redis://:hidden@127.0.0.1:1") as limiter:
            hits = await asyncio.gather(*(limiter.hit("5/minute", str(number)) for number in range(100)))
            again = [await limiter.hit("5/minute", str(number % 10)) for number in range(100)]
            assert limiter.degraded
    assert set(hits) == {True}
    assert again == [True] * 40 + [False] * 60
    assert [line["event"] for line in logs] == ["limits cannot be shared"]
    assert "hidden" not in str(logs)


async def test_a_store_that_does_not_answer_is_not_waited_for_long_nor_asked_again_at_once() -> None:
    met = 0
    over = asyncio.Event()

    async def say_nothing(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal met
        met += 1
        await over.wait()

    async with listening(say_nothing) as port, sharing(f"redis://127.0.0.1:{port}") as limiter:
        began = time.monotonic()
        hits = await asyncio.gather(*(limiter.hit("5/minute", str(number)) for number in range(5000)))
        waited = time.monotonic() - began
        again = [at_once(limiter.hit("5/minute", "a")) for _ in range(100)]
        over.set()
    assert set(hits) == {True}
    assert again == [True] * 5 + [False] * 95
    assert met == 1
    # One after the other they would have waited for twenty minutes.
    assert 0.2 < waited < 20


async def test_a_store_that_comes_back_is_found_by_one_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    async with listening(store.talk) as port:
        pass
    with capture_logs() as logs:
        async with sharing(f"redis://127.0.0.1:{port}") as limiter:
            assert await limiter.hit("1/minute", "a")
            async with listening(store.talk, port):
                assert not await limiter.hit("1/minute", "a")
                assert limiter.degraded
                monkeypatch.setattr(limiter, "_retry_at", 0.0)
                # The store has not heard of those before.
                assert await limiter.hit("1/minute", "a")
                assert not limiter.degraded
                assert not await limiter.hit("1/minute", "a")
    assert [line["event"] for line in logs] == ["limits cannot be shared", "limits are shared again"]


async def test_a_store_lost_for_a_moment_keeps_nobody_out_who_is_within_the_limit() -> None:
    store = Store()
    async with listening(store.talk) as port, sharing(f"redis://127.0.0.1:{port}") as limiter:
        assert await limiter.hit("3/minute", "everybody")
        store.hangs_up = True
        crowd = await asyncio.gather(*(limiter.hit("3/minute", str(number)) for number in range(2000)))
        assert limiter.degraded
        one = [await limiter.hit("3/minute", "one") for _ in range(5)]
    assert set(crowd) == {True}
    assert one == [True] * 3 + [False] * 2


async def test_a_busy_loop_is_not_taken_for_a_lost_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "PATIENCE", 0.05)
    store = Store()
    async with listening(store.talk) as port, sharing(f"redis://127.0.0.1:{port}") as limiter:
        assert await limiter.hit("5/minute", "a")
        store.busy = 0.1
        assert await limiter.hit("5/minute", "a")
    assert not limiter.degraded


async def test_without_an_address_limits_are_counted_in_the_process() -> None:
    for unset in (None, ""):
        limiter = open_limiter(settings(rate_limit_url=unset))
        assert at_once(limiter.hit("1/minute", "a"))
        assert not at_once(limiter.hit("1/minute", "a"))
        await limiter.close()


@pytest.mark.parametrize(
    "url", ["http://h", "redis", "redis://", "redis:///0", "unix:///run/redis", "memory://", "redis://:hidden/x@h:port"]
)
def test_an_address_that_is_none_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError, match="must be redis://host") as refused:
        settings(rate_limit_url=url)
    assert "hidden" not in str(refused.value)


def test_an_address_is_handed_to_other_processes_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_LIMIT_URL", "redis://:hidden@store:6379/1")
    monkeypatch.setenv("MULTITUDE_TRUSTED_PROXIES", "10.0.0.0/8, 2001:db8::/32,192.0.2.1,")
    found = settings()
    assert found.trusted_proxies == ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"]
    environment = found.as_environment()
    assert environment["RATE_LIMIT_URL"] == "redis://:hidden@store:6379/1"
    assert environment["MULTITUDE_TRUSTED_PROXIES"] == "10.0.0.0/8,2001:db8::/32,192.0.2.1/32"
    assert "hidden" not in f"{found!r}"


@pytest.mark.parametrize("network", ["10.0.0.1/8", "proxy.example.org", "10.0.0.0/40", "0.0.0.0/0", "::/0"])
def test_networks_that_are_none_or_everybody_are_not_trusted(network: str) -> None:
    with pytest.raises(ValidationError, match="trusted_proxies"):
        settings(trusted_proxies=network)


def test_the_answer_says_when_to_come_again() -> None:
    problem = TooManyRequests(retry_after=120)
    assert (problem.status, problem.slug, problem.headers) == (429, "too-many-requests", {"Retry-After": "120"})
