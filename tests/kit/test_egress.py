"""Which addresses may be called."""

import asyncio
import threading
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from app.kit.webhooks import egress
from app.kit.webhooks.egress import (
    EgressPolicy,
    SystemResolver,
    TargetInvalid,
    TargetRefused,
    TargetUnresolvable,
    is_public,
)


def resolving(*addresses: str) -> EgressPolicy:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return EgressPolicy(resolve)


PUBLIC = [
    "1.1.1.1",
    "168.63.129.15",
    "93.184.216.34",
    "192.0.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "2606:4700:4700::1111",
    "2a00:1450::1",
]
REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "64:ff9b::a83f:8110",
    "2002:a83f:8110::1",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:1.1.1.1",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::1",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", PUBLIC)
async def test_what_anybody_can_reach_may_be_called(address: str) -> None:
    assert is_public(ip_address(address))
    found = resolving(address)
    assert await found.addresses(found.read("https://hooks.example.org/a")) == [ip_address(address)]


@pytest.mark.parametrize("address", REFUSED)
async def test_what_only_this_network_can_reach_is_refused(address: str) -> None:
    found = resolving(address)
    with pytest.raises(TargetRefused):
        await found.addresses(found.read("https://hooks.example.org/a"))


@pytest.mark.parametrize("address", [one for one in REFUSED if "%" not in one])
async def test_an_address_in_place_of_a_host_is_looked_at_as_well(address: str) -> None:
    found = resolving("1.1.1.1")
    host = f"[{address}]" if ":" in address else address
    with pytest.raises((TargetRefused, TargetInvalid)):
        await found.addresses(found.read(f"https://{host}/"))


async def test_one_private_address_among_public_ones_refuses_them_all() -> None:
    for addresses in (("1.1.1.1", "10.0.0.1"), ("10.0.0.1", "1.1.1.1"), ("1.1.1.1", "nonsense")):
        found = resolving(*addresses)
        with pytest.raises(TargetRefused):
            await found.addresses(found.read("https://hooks.example.org"))


@pytest.mark.parametrize(
    "url",
    [
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0/",
        "https://10.0.0.08/",
        "https://example.0x7f/",
        "https://example.127/",
        "https://\uff11\uff12\uff17.0.0.1/x",
        "https://127\u30020\u30020\u30021/",
        "https://127.0.0.1./",
        "https://example.org./",
        "https://example..org/",
        "https://.example.org/",
        "https://-a.example.org/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1",
        "https://[127.0.0.1]/",
        "https://[v1.a]/",
        "https://user@example.org/",
        "https://user:secret@example.org/",
        "https://@example.org/",
        "https://example.org\\@127.0.0.1/",
        "https://example.org/a\\b",
        "https://example.org#@127.0.0.1/",
        "https://example.org/#there",
        "https://example.org:0/",
        "https://example.org:65536/",
        "https://example.org:/",
        "https://example.org:443:443/",
        "https://exa mple.org/",
        "https://example.org/a b",
        "https://example.org/\r\nX: y",
        "https://example.org/\n",
        "https://example.org/é",
        "https://ex%61mple.org/",
        "https:///path",
        "https://",
        "//example.org/",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://example.org/",
        "http://example.org/",
        "",
        "https://" + "a" * 64 + ".org/",
        "https://xn--a/",
        "https://xn--0.example/",
        "https://hooks.xn--0.example/",
        "https://xn---bbk.example/",
        "https://xn--abc-.example/",
        "https://XN--A.example/",
        "https://example.org/" + "a" * 2000,
    ],
)
async def test_what_is_spelt_to_be_misread_is_no_address(url: str) -> None:
    found = resolving("1.1.1.1")
    with pytest.raises((TargetInvalid, TargetRefused)):
        await found.addresses(found.read(url))


def test_an_address_is_taken_apart() -> None:
    found = resolving()
    assert found.read("HTTPS://Hooks.Example.org:8443/a/b?c=d&e=%20") == (
        "https",
        "hooks.example.org",
        8443,
        "/a/b?c=d&e=%20",
    )
    assert found.read("https://hooks.example.org").url == "https://hooks.example.org/"
    assert found.read("https://hooks.example.org?a").path == "/?a"
    assert found.read("https://[2606:4700:0:0::1111]:444/").authority == "[2606:4700::1111]:444"
    assert found.read("https://bücher.example/").host == "xn--bcher-kva.example"
    assert found.read("https://a.XN--Bcher-kva.example/").host == "a.xn--bcher-kva.example"


_LABELS = st.text(st.sampled_from("abkz019-\u00e4\u00df\u05d0\u0661\u200d\u3002\U0001f600"), min_size=1, max_size=12)


@given(st.lists(st.one_of(_LABELS, _LABELS.map("xn--{}".format)), min_size=1, max_size=3))
@example(["xn--bcher-kva", "a_b"])
def test_a_host_is_one_for_what_calls_it_or_none_at_all(labels: list[str]) -> None:
    try:
        target = resolving().read(f"https://{'.'.join(labels)}/")
    except TargetInvalid:
        return
    url = URL.build(scheme=target.scheme, authority=target.authority, path=target.path, encoded=True)
    assert url.raw_host == target.host
    assert str(url) == target.url
    assert URL(target.url) == url


async def test_this_machine_may_be_called_only_where_it_is_allowed() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return {"localhost": ["127.0.0.1", "::1"], "far.example": ["1.1.1.1"], "near.example": ["10.0.0.1"]}[host]

    here = EgressPolicy(resolve, loopback=True)
    assert await here.addresses(here.read("http://localhost:8000/")) == [ip_address("127.0.0.1"), ip_address("::1")]
    assert await here.addresses(here.read("http://127.0.0.1/"))
    assert await here.addresses(here.read("https://far.example/"))
    for url in ("http://far.example/", "http://near.example/", "https://near.example/", "http://10.0.0.1/"):
        with pytest.raises(TargetRefused):
            await here.addresses(here.read(url))
    elsewhere = EgressPolicy(resolve)
    for url in ("https://localhost/", "https://127.0.0.1/", "https://[::1]/"):
        with pytest.raises(TargetRefused):
            await elsewhere.addresses(elsewhere.read(url))


async def test_a_host_without_an_address_cannot_be_called() -> None:
    async def fail(host: str, port: int) -> Sequence[str]:
        raise OSError

    for found in (EgressPolicy(fail), resolving()):
        with pytest.raises(TargetUnresolvable):
            await found.addresses(found.read("https://hooks.example.org"))


async def test_a_name_server_that_hangs_holds_one_thread_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, asked = threading.Event(), []

    def hang(host: str, port: int) -> list[str]:
        asked.append(host)
        if host == "slow.example":
            let_go.wait(20)
        return ["1.1.1.1"]

    monkeypatch.setattr(egress, "_resolved", hang)
    resolver = SystemResolver()
    slow = [asyncio.create_task(resolver("slow.example", 443)) for _ in range(100)]
    assert await resolver("fast.example", 443) == ["1.1.1.1"]
    slow[0].cancel()
    let_go.set()
    await asyncio.gather(*slow[1:])
    assert asked.count("slow.example") == 1
    assert await resolver("slow.example", 443) == ["1.1.1.1"]
    resolver.close()


class Clock:
    """The resolver's clock, which goes on when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(egress, "time", clock)
    return clock


async def test_a_host_whose_look_up_hung_is_left_alone_for_a_while(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    begun, let_go, asked = threading.Event(), threading.Event(), []

    def hang(host: str, port: int) -> list[str]:
        asked.append(host)
        begun.set()
        let_go.wait(20)
        return ["1.1.1.1"]

    monkeypatch.setattr(egress, "_resolved", hang)
    resolver = SystemResolver()
    slow = asyncio.create_task(resolver("slow.example", 443))
    assert await asyncio.to_thread(begun.wait, 20)
    clock.seconds += egress._HANGING + 1
    # While it hangs, and when it has hung.
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await resolver("slow.example", 443)
        let_go.set()
        await slow
    assert await resolver("fast.example", 443) == ["1.1.1.1"]
    assert asked == ["slow.example", "fast.example"]
    resolver.close()


async def test_a_host_is_looked_up_again_when_it_was_left_alone_long_enough(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    asked: list[str] = []

    def late(host: str, port: int) -> list[str]:
        asked.append(host)
        clock.seconds += egress._HANGING + 1 if len(asked) == 1 else 0
        return ["1.1.1.1"]

    monkeypatch.setattr(egress, "_resolved", late)
    resolver = SystemResolver()
    assert await resolver("slow.example", 443) == ["1.1.1.1"]
    with pytest.raises(TimeoutError):
        await resolver("slow.example", 443)
    clock.seconds += egress._AVOIDED + 1
    assert await resolver("slow.example", 443) == ["1.1.1.1"]
    assert len(asked) == 2
    resolver.close()


async def test_look_ups_that_wait_are_bounded_and_end_with_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        let_go.wait(2)
        return ["1.1.1.1"]

    monkeypatch.setattr(egress, "_resolved", hang)
    monkeypatch.setattr(egress, "_RESOLVERS", 1)
    monkeypatch.setattr(egress, "_MOST_LOOK_UPS", 3)
    resolver = SystemResolver()
    waiting = [asyncio.create_task(resolver(f"{number}.example", 443)) for number in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        await resolver("more.example", 443)
    resolver.close()
    let_go.set()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert ends[0] == ["1.1.1.1"]
    assert [type(end) for end in ends[1:]] == [TimeoutError] * 2
