"""How fast people confirm what they have signed, and that each is counted once."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop

from app.kit.crypto.sealing import KeyRing
from bench import load
from bench.pending import plant_mailed
from bench.rows import Row, at_least, at_most
from bench.scenarios import Bench
from bench.scenarios.signing import rate
from bench.service import MAILED, Service
from bench.wire import Answer, Pool
from tests.support.postgres import SqlDatabase

_CONNECTIONS = (64, 256)
# Tokens made for each measurement, by what the same seconds of signing would take.
_SPARE = 2
_CROWD = 10_000
_STATES = """
    SELECT count(*) FILTER (WHERE s.state = 'confirmed'), (
        SELECT coalesce(sum(t.signature_count), 0)::bigint FROM signature_tallies t
        WHERE t.petition_id = p.id AND t.dimension = 'total'
    ) FROM petitions p JOIN signatures s ON s.petition_id = p.id WHERE p.slug = $1 GROUP BY p.id
"""


@dataclass(slots=True)
class _Links:
    """Tokens of pending signatures, each used once. Whoever was not answered may have confirmed nevertheless."""

    url: str
    path: Path
    taken: int = 0
    answered: int = 0
    unanswered: int = 0

    def rate(self, bench: Bench, connections: int) -> float:
        """Confirmations a second; an error when any was refused."""
        measured = load.confirm(
            self.url, connections=connections, seconds=bench.seconds, tokens=self.path, first=self.taken
        )
        if measured.refused or measured.socket_errors:
            raise RuntimeError(f"{measured.refused} refused, {measured.socket_errors} socket errors, or too few tokens")
        # At its end wrk waits for one on each connection; at its start it looks at one that it does not send.
        self.taken += measured.requests + connections + 1
        self.answered += measured.requests
        self.unanswered += connections
        return measured.per_second


@dataclass(slots=True)
class _Crowd:
    """Everybody presses the button twice, and every answer is waited for."""

    requests: list[bytes]
    asked: int = 0
    settled: int = 0
    confirmed: set[int] = field(default_factory=set)

    def take(self) -> tuple[int, bytes] | None:
        if self.asked == 2 * len(self.requests):
            return None
        number, self.asked = self.asked // 2, self.asked + 1
        return number, self.requests[number]

    def settle(self, number: int, answer: Answer | None) -> None:
        self.settled += 1
        if answer is not None and answer.status == 200:
            self.confirmed.add(number)

    async def confirm(self, url: str) -> int:
        """How many were told that they have confirmed."""
        async with Pool(url, _CONNECTIONS[-1], self.take, self.settle), asyncio.timeout(60):
            while self.settled < 2 * len(self.requests):
                await asyncio.sleep(0.05)
        return len(self.confirmed)


def confirm(bench: Bench) -> Iterator[Row]:
    """Links are followed that were mailed before, each once, next to people who sign a petition without mails."""
    with bench.services.running("confirm") as ours:
        links = _planted(bench, ours)
        for connections in _CONNECTIONS:
            what = f"confirming / signing, {connections} connections"
            pair = bench.compare(
                what, partial(links.rate, bench, connections), partial(rate, ours.url, bench, connections)
            )
            yield Row(what, pair.ratio, "x", at_least(0.8), pair.note("confirming", "signing"))
        yield _exactness(bench, ours, links)
    links.path.unlink()


def _planted(bench: Bench, ours: Service) -> _Links:
    bench.say("how many will be needed?")
    measurements = len(_CONNECTIONS) * (bench.rounds + 1)
    count = round(measurements * bench.seconds * _SPARE * rate(ours.url, bench, _CONNECTIONS[-1])) + _CROWD
    links = _Links(ours.url, bench.folder / f"tokens-{secrets.token_hex(4)}")
    plant_mailed(ours.database, KeyRing.parse(bench.services.secret), links.path, count, bench.say)
    return links


def _exactness(bench: Bench, ours: Service, links: _Links) -> Row:
    # Whatever was under way when wrk ended is committed by now.
    time.sleep(1)
    before, _ = _confirmed(ours.database)
    bench.say(f"{_CROWD:,} people confirm, twice each")
    crowd = _Crowd(_requests(links))
    told = uvloop.run(crowd.confirm(ours.url))
    after, tallied = _confirmed(ours.database)
    bench.services.call(ours.database, "tally", "verify", "--json")
    wrong = abs(after - before - told) + abs(tallied - after) + _CROWD - told
    # Of those whom wrk did not wait for, any number may have been confirmed.
    wrong += max(0, links.answered - before, before - links.answered - links.unanswered)
    note = f"{links.answered + told:,} answered, {after:,} confirmed; wrk waited for {links.unanswered:,} when it ended"
    return Row("confirmed, answered 200, tallied, and recounted: differences", wrong, "", at_most(0), note)


def _requests(links: _Links) -> list[bytes]:
    """What sends the next tokens that nobody has used."""
    with links.path.open("rb") as file:
        line = len(file.readline())
        file.seek(line * links.taken)
        tokens = [file.readline().strip() for _ in range(_CROWD)]
    head = b"POST /v1/confirmations HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: "
    bodies = [b'{"token":"%b"}' % token for token in tokens]
    return [b"%b%d\r\n\r\n%b" % (head, len(body), body) for body in bodies]


def _confirmed(database: SqlDatabase) -> tuple[int, int]:
    """(confirmed signatures, their total as it is tallied)."""
    confirmed, tallied = database.rows(_STATES, MAILED)[0]
    return confirmed, tallied
