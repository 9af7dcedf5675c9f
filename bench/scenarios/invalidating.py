"""Invalidating a fifth of a big petition, and restoring it, while people go on signing it."""

import asyncio
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import asyncpg
import httpx

from bench.bigness import fill
from bench.people import Requests
from bench.rows import Row, at_most
from bench.scenarios import Bench
from bench.service import Service
from bench.wire import Answer, Pool
from tests.support.services import environment, multitude

SIGNERS_PER_SECOND = 500
_CONNECTIONS = 64
_STEP, _LOOK = 0.005, 0.1
# Seconds. So long people sign before, for comparison.
_BEFORE = 5
_PATIENCE = 900
# Two of seven countries in seven tenths of the time: a fifth, strewn over the table.
_COUNTRIES, _SHARE = ["GB", "FR"], 0.7
_EDGE = "SELECT max(signed_at) - (max(signed_at) - min(signed_at)) * $1::float8 FROM signatures"


class _Signers:
    """People who sign at a steady rate; how long each waited, from the moment they wanted to."""

    def __init__(self, group: str) -> None:
        self._requests = Requests("p0", group)
        self._began = time.monotonic()
        self._asked = 0
        self._since: dict[int, float] = {}
        self.waits: list[float] = []
        self.refused = 0

    def take(self) -> tuple[int, bytes] | None:
        due_at = self._began + self._asked / SIGNERS_PER_SECOND
        if due_at > time.monotonic():
            return None
        self._asked += 1
        self._since[self._asked] = due_at
        return self._asked, self._requests.of(self._asked, b"UG")

    def settle(self, number: int, answer: Answer | None) -> None:
        self.waits.append(time.monotonic() - self._since.pop(number))
        self.refused += answer is None or answer.status != 201


class _Watched(NamedTuple):
    """What happened while people signed: seconds, their waits in order, and how many were refused."""

    seconds: float
    waits: list[float]
    refused: int


async def _sign_until(service: Service, state: str | None) -> _Watched:
    """Let people sign until the invalidation is in this state, or for a while."""
    signers, began = _Signers(secrets.token_hex(5)), time.monotonic()
    connection = await asyncpg.connect(service.database.url)
    query = "SELECT bool_and(state = $1) FROM invalidations"
    async with Pool(service.url, _CONNECTIONS, signers.take, signers.settle) as pool:
        ended = look_at = 0.0
        while not ended:
            pool.wake()
            await asyncio.sleep(_STEP)
            passed = time.monotonic() - began
            if passed > _PATIENCE:
                raise RuntimeError(f"not {state} in {_PATIENCE} s")
            if state is None:
                ended = passed if passed > _BEFORE else 0.0
            elif passed > look_at:
                look_at = passed + _LOOK
                ended = passed if await connection.fetchval(query, state) else 0.0
    await connection.close()
    return _Watched(ended, sorted(signers.waits), signers.refused)


@contextmanager
def _worker(bench: Bench, service: Service) -> Iterator[None]:
    settings = environment(**bench.services.settings(service.database))
    process = subprocess.Popen(multitude("worker"), env=settings, cwd=bench.folder, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _say(service: Service, path: str, body: Any = None) -> Any:
    """What staff say of the petition; the answer."""
    headers = {"Authorization": f"Bearer {service.key}"}
    url = f"{service.url}/v1/petitions/p0/invalidations{path}"
    answer = httpx.post(url, json=body, headers=headers, timeout=60, trust_env=False)
    if answer.is_error:
        raise RuntimeError(f"POST {path} answered {answer.status_code}: {answer.text}")
    return answer.json()


def _watch(what: str, watched: _Watched, matched: int, before: _Watched) -> Iterator[Row]:
    p99, calm = (1000 * run.waits[len(run.waits) * 99 // 100] for run in (watched, before))
    note = f"{matched / watched.seconds:,.0f}/s; {len(watched.waits):,} signed meanwhile, {watched.refused} refused"
    yield Row(f"{what}: time", watched.seconds, "s", at_most(120), note)
    longest = f"99 of 100 within {p99:,.0f} ms, {calm:,.0f} ms before; {SIGNERS_PER_SECOND}/s sign"
    yield Row(f"{what}: longest wait of a signer", watched.waits[-1], "s", at_most(1), longest)


def invalidating(bench: Bench) -> Iterator[Row]:
    """By a rule over HTTP, carried out by a worker; undone as a whole; all tallies recounted after each."""
    with bench.services.running("invalidated") as service:
        fill(service.database, "p0", bench.big, bench.say)
        until = service.database.value(_EDGE, 1 - _SHARE).replace(second=0, microsecond=0).isoformat()
        rule = {"countries": _COUNTRIES, "signed_until": until}
        began = time.monotonic()
        drafted = _say(service, "", {"reason": "bench", "rule": rule})
        matched = drafted["dry_run"]["signature_count"]
        yield Row(f"dry run of a rule over {bench.big:,}", time.monotonic() - began, "s", None, f"{matched:,} matched")
        bench.say("people sign, nothing else happens")
        before = asyncio.run(_sign_until(service, None))
        with _worker(bench, service):
            for verb, state in (("apply", "applied"), ("undo", "undone")):
                what = f"{verb} an invalidation of {matched:,} of {bench.big:,}"
                bench.say(what)
                _say(service, f"/{drafted['id']}/{verb}")
                yield from _watch(what, asyncio.run(_sign_until(service, state)), matched, before)
                bench.services.call(service.database, "tally", "verify")
