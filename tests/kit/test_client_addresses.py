"""The client's address is the one a trusted proxy vouches for, and what is kept of it cannot be turned back."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import select, text
from structlog.testing import capture_logs

from app.kit.abuse import address_digests
from app.kit.abuse.address_digests import ADDRESS_SALTS, AddressSalt, ClientIpDigester, forget_salts
from app.kit.abuse.client_addresses import Address, CountedClients, TrustedProxies, client_address
from app.kit.clock import now
from app.kit.crypto.key_rotation import reseal
from app.kit.crypto.sealing import KeyRing
from app.kit.database.session import Database
from app.kit.logs import ThrottledWarning
from app.kit.web.asgi import Scope
from tests.support.settings import SECRET_KEYS

RING = KeyRing.parse(SECRET_KEYS)
NETWORKS = ["10.0.0.0/8", "2001:db8:aaaa::/48"]
OURS = TrustedProxies(NETWORKS)
HOME = ip_address("198.51.100.7")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


def asked(peer: str | None, *forwarded: str, name: str = "x-forwarded-for") -> Scope:
    """A request as the server hands it over."""
    headers = [(b"host", b"multitude.test"), *((name.encode(), value.encode("latin-1")) for value in forwarded)]
    return {"type": "http", "client": peer and (peer, 40_000), "headers": headers}


def seen(peer: str | None, *forwarded: str) -> str:
    return str(client_address(asked(peer, *forwarded), OURS))


def test_a_peer_nobody_trusts_cannot_claim_anything() -> None:
    assert seen("203.0.113.9", "198.51.100.7") == "203.0.113.9"
    assert client_address(asked("10.0.0.1", "198.51.100.7"), TrustedProxies()) == ip_address("10.0.0.1")


def test_behind_a_trusted_proxy_the_client_is_the_one_it_names() -> None:
    assert seen("10.0.0.1", "198.51.100.7") == "198.51.100.7"
    assert seen("2001:db8:aaaa::1", "2001:db8:bbbb::7") == "2001:db8:bbbb::7"


def test_what_the_client_itself_claimed_does_not_count() -> None:
    assert seen("10.0.0.1", "1.1.1.1, 198.51.100.7") == "198.51.100.7"
    assert seen("10.0.0.1", "1.1.1.1", "198.51.100.7, 10.2.2.2") == "198.51.100.7"


@pytest.mark.parametrize("nonsense", ["", "unknown", "_hidden", "198.51.100", "198.51.100.7 x", "::g", "1" * 5000, "é"])
def test_an_entry_that_cannot_be_read_ends_the_walk(nonsense: str) -> None:
    assert seen("10.0.0.1", f"198.51.100.7, {nonsense}") == "10.0.0.1"
    assert seen("10.0.0.1", f"198.51.100.7,{nonsense},10.3.3.3") == "10.3.3.3"


def test_where_all_are_trusted_the_farthest_one_is_the_client() -> None:
    assert seen("10.0.0.1", "10.4.4.4, 10.3.3.3") == "10.4.4.4"
    assert seen("10.0.0.1") == "10.0.0.1"


def test_the_standard_header_is_not_believed() -> None:
    assert client_address(asked("10.0.0.1", "for=198.51.100.7", name="forwarded"), OURS) == ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("198.51.100.7:443", "198.51.100.7"),
        ("[2001:db8:bbbb::7]:443", "2001:db8:bbbb::7"),
        ("[2001:db8:bbbb::7]", "2001:db8:bbbb::7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("\t198.51.100.7 ", "198.51.100.7"),
    ],
)
def test_an_address_is_known_however_it_is_written(written: str, meant: str) -> None:
    assert seen("10.0.0.1", written) == meant


def test_a_proxy_is_trusted_over_either_kind_of_socket() -> None:
    assert seen("::ffff:10.0.0.1", "198.51.100.7") == "198.51.100.7"


def test_a_unix_socket_has_no_address() -> None:
    assert client_address(asked(None, "198.51.100.7"), OURS) is None
    assert client_address(asked("", "198.51.100.7"), OURS) is None


def model(peer: str, entries: Sequence[str]) -> Address:
    """The rule, said as plainly as it can be: the peer, then leftwards for as long as each one is trusted."""
    chain = [peer, *reversed(entries)]
    known = [ip_address(peer)]
    for before, entry in pairwise(chain):
        if not any(ip_address(before) in ip_network(network) for network in NETWORKS):
            break
        try:
            known.append(ip_address(entry))
        except ValueError:
            break
    return known[-1]


ENTRIES = st.one_of(
    st.ip_addresses(network="10.0.0.0/8").map(str),
    st.ip_addresses(network="2001:db8:aaaa::/48").map(str),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(network="2001:db8::/32").map(str),
    st.sampled_from(["", "unknown", "10.0.0.256", "10.0.0.0/8", "::1::", "x" * 100]),
)


@given(peer=ENTRIES.filter(lambda entry: ":" in entry or entry[:1].isdigit()), lists=st.lists(st.lists(ENTRIES)))
@example(peer="10.0.0.1", lists=[["1.1.1.1", "10.9.9.9"], [], ["10.2.2.2"]])
def test_the_walk_follows_the_rule(peer: str, lists: list[list[str]]) -> None:
    try:
        ip_address(peer)
    except ValueError:
        return
    headers = [", ".join(entries) for entries in lists]
    # A header without an entry reads as one entry that is none.
    entries = [entry for each in lists for entry in (each or [""])]
    assert client_address(asked(peer, *headers), OURS) == model(peer, entries)


async def test_a_header_of_a_peer_that_is_not_trusted_is_told_once_a_minute_and_without_its_address() -> None:
    proxies = TrustedProxies(NETWORKS)
    with capture_logs() as lines:
        for number in range(100):
            for peer in (f"198.51.100.{number}", f"192.168.1.{number}", "127.0.0.1", "10.0.0.1"):
                client_address(asked(peer, "203.0.113.7"), proxies)
            client_address(asked("8.8.8.8"), proxies)
            client_address(asked("8.8.8.8", "203.0.113.7"), proxies)
    assert [(line["log_level"], line["reason"], line["count"]) for line in lines] == [
        ("warning", "private network", 1),
        ("warning", "this machine", 1),
        ("warning", "public network", 1),
    ]
    assert all("MULTITUDE_TRUSTED_PROXIES" in line["event"] for line in lines)


async def test_what_is_told_once_a_minute_is_counted_to_its_end() -> None:
    warning, over = ThrottledWarning("refused", seconds=0.01), asyncio.Event()
    with capture_logs() as lines:
        for _ in range(5):
            warning.add("busy")
        while len(lines) < 2:
            asyncio.get_running_loop().call_later(0.01, over.set)
            await over.wait()
            over.clear()
    assert [(line["reason"], line["count"]) for line in lines] == [("busy", 1), ("busy", 4)]


def test_clients_are_counted_by_address_or_network() -> None:
    clients = CountedClients(["127.0.0.0/8", "10.0.0.0/8"])
    assert clients.key_of_peer("127.0.0.1") is clients.key_of_peer("10.1.2.3") is clients.key_of_peer("") is None
    assert (
        clients.key_of_peer("2001:db8::1") == clients.key_of_peer("2001:db8::2") != clients.key_of_peer("2001:db9::1")
    )
    assert clients.key_of_peer("8.8.8.8") == clients.key_of_peer("::ffff:8.8.8.8") != clients.key_of_peer("8.8.8.9")


@given(st.binary(max_size=60))
def test_whatever_a_header_holds_there_is_an_answer(value: bytes) -> None:
    scope = {"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", value)]}
    assert client_address(scope, OURS) is not None


async def test_an_address_has_one_digest_a_day_in_every_process(database: Database) -> None:
    one, other = ClientIpDigester(RING, database), ClientIpDigester(RING, database)
    digests = await asyncio.gather(*(each.digests(HOME) for each in (one, other) for _ in range(20)))
    assert len(set(digests)) == 1
    assert digests[0] is not None
    assert [len(digest) for digest in digests[0]] == [8, 8]
    assert await one.digests(ip_address("198.51.100.8")) != digests[0]
    async with database.transaction() as session:
        assert len((await session.scalars(select(AddressSalt.salted_on))).all()) == 1


async def test_it_has_another_digest_the_next_day(database: Database) -> None:
    moment = NOON
    kept = ClientIpDigester(RING, database, clock=lambda: moment)
    today = await kept.digests(HOME)
    moment = NOON + timedelta(hours=11, minutes=59)
    assert await kept.digests(HOME) == today
    moment = NOON + timedelta(hours=12)
    tomorrow = await kept.digests(HOME)
    assert tomorrow not in {None, today}
    assert await ClientIpDigester(RING, database, clock=lambda: moment).digests(HOME) == tomorrow
    assert await ClientIpDigester(RING, database, clock=lambda: NOON).digests(HOME) == today


async def test_another_key_digests_differently(database: Database) -> None:
    before = await ClientIpDigester(RING, database).digests(HOME)
    rotated = KeyRing.parse(f"another-secret-of-the-movement-0001,{SECRET_KEYS}")
    assert await ClientIpDigester(rotated, database).digests(HOME) == before
    elsewhere = KeyRing.parse(SECRET_KEYS, digest_secret="another-secret-of-the-movement-0001")
    assert await ClientIpDigester(elsewhere, database).digests(HOME) != before


async def test_a_household_is_one_however_it_numbers_its_machines(database: Database) -> None:
    kept = ClientIpDigester(RING, database)
    home = await kept.digests(ip_address("2001:db8:1:2::1"))
    assert await kept.digests(ip_address("2001:db8:1:2:ffff:ffff:ffff:ffff")) == home
    assert await kept.digests(ip_address("2001:db8:1:3::1")) != home


async def test_no_address_has_no_digest(database: Database) -> None:
    assert await ClientIpDigester(RING, database).digests(None) is None


async def test_the_salt_stands_sealed_in_the_database(database: Database) -> None:
    await ClientIpDigester(RING, database, clock=lambda: NOON).digests(HOME)
    async with database.transaction() as session:
        salted_on, sealed = (await session.execute(select(AddressSalt.salted_on, AddressSalt.sealed))).one()
    assert salted_on == NOON.date()
    assert len(RING.open(sealed, ADDRESS_SALTS.identity(salted_on))) == 32


async def test_a_salt_survives_a_rotation_of_keys(database: Database) -> None:
    before = await ClientIpDigester(RING, database).digests(HOME)
    rotated = KeyRing.parse(f"another-secret-of-the-movement-0001,{SECRET_KEYS}")
    connection = await database.pin()
    try:
        done = await reseal(database, connection, rotated, ADDRESS_SALTS, lambda _count: None)
    finally:
        await connection.close()
    assert (done.resealed_count, done.unreadable_count, done.left_count) == (1, 0, 0)
    without_the_old = KeyRing.parse("another-secret-of-the-movement-0001", digest_secret=SECRET_KEYS)
    assert await ClientIpDigester(without_the_old, database).digests(HOME) == before


async def test_a_salt_of_another_key_ring_gives_no_digest(database: Database) -> None:
    await ClientIpDigester(KeyRing.parse("somebody-else's-secret-of-old-000001"), database).digests(HOME)
    with capture_logs() as logs:
        assert await ClientIpDigester(RING, database).digests(HOME) is None
    assert [line["event"] for line in logs] == ["no salt for addresses"]


async def test_without_a_database_there_is_no_digest_and_it_is_not_asked_each_time() -> None:
    kept = ClientIpDigester(RING, Database(NOWHERE))
    with capture_logs() as logs:
        assert {await kept.digests(HOME) for _ in range(20)} == {None}
    assert len(logs) == 1
    assert str(HOME) not in str(logs)


async def test_a_database_that_does_not_answer_holds_nobody_for_long(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(address_digests, "_READ_TIMEOUT", 0.05)
    monkeypatch.setattr(address_digests, "_RETRY_PAUSE", 0.0)
    kept = ClientIpDigester(RING, database)
    async with database.transaction() as session:
        await session.execute(text("LOCK TABLE address_salts IN ACCESS EXCLUSIVE MODE"))
        async with asyncio.timeout(5):
            assert await kept.digests(HOME) is None
    monkeypatch.setattr(address_digests, "_READ_TIMEOUT", 5.0)
    assert await kept.digests(HOME) is not None


async def test_yesterday_s_key_is_not_used_when_there_is_none_for_today(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = NOON
    kept = ClientIpDigester(RING, database, clock=lambda: moment)
    assert await kept.digests(HOME) is not None
    monkeypatch.setattr(address_digests, "_READ_TIMEOUT", 0.05)
    moment = NOON + timedelta(days=1)
    async with database.transaction() as session:
        await session.execute(text("LOCK TABLE address_salts IN ACCESS EXCLUSIVE MODE"))
        assert await kept.digests(HOME) is None


async def test_salts_are_forgotten_after_two_days(database: Database) -> None:
    today = now()
    for days in range(6):
        moment = today - timedelta(days=days)
        await ClientIpDigester(RING, database, clock=lambda moment=moment: moment).digests(HOME)  # type: ignore[misc]
    async with database.transaction() as session:
        assert len(await forget_salts(session)) == 3
        assert len(await forget_salts(session)) == 0
        left = (await session.scalars(select(AddressSalt.salted_on))).all()
    assert set(left) == {today.date() - timedelta(days=days) for days in range(3)}
