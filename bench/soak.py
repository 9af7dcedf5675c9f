"""`python -m bench.soak`: people sign while the API, PostgreSQL, and both at once are killed, over and over.

Nobody gives up: whoever is told to come back, or is told nothing, asks again. At the end, after all that, everybody
who was told "signed" must be in the database, once, under the id they were told; and every tally must be right.
"""

import asyncio
import contextlib
import itertools
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

import typer
import uvloop
from rich.console import Console

from app.kit.crypto.sealing import KeyRing
from app.people.fields import emails
from bench import people, report
from bench.people import Requests
from bench.rows import Row, at_least, at_most
from bench.service import Services
from bench.stage import stage
from bench.wire import Answer, Pool
from tests.support.postgres import Cluster, SqlDatabase
from tests.support.services import Server

_told = Console(stderr=True)
_GROUP = "soak"
_VICTIMS = ("the API", "PostgreSQL", "both")
_STEP = 0.02
# Seconds from the end of the killing until everybody must have been answered.
_PATIENCE = 60


@dataclass(slots=True)
class Signers:
    """Everybody who signs, and what they were told. Lives in a thread of its own, next to the one that kills."""

    requests: Requests = field(default_factory=lambda: Requests("p0", _GROUP))
    ended: bool = False
    asked: int = 0
    ids: dict[int, UUID] = field(default_factory=dict)
    asked_again: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    lost: int = 0
    busy: int = 0
    other: dict[int, str] = field(default_factory=dict)
    last_answer: float = 0.0

    def take(self) -> tuple[int, bytes] | None:
        if self.waiting:
            number = self.waiting.pop()
        elif self.ended:
            return None
        else:
            number = self.asked
            self.asked += 1
        return number, self.requests.of(number, b"UG")

    def settle(self, number: int, answer: Answer | None) -> None:
        if answer is not None and answer.status == 201:
            self.ids[number] = UUID(json.loads(answer.body)["id"])
            self.last_answer = time.monotonic()
            return
        if answer is None:
            self.lost += 1
        elif answer.status == 503:
            self.busy += 1
        else:
            self.other[answer.status] = answer.body[:200].decode(errors="replace")
        self.asked_again.add(number)
        # Sooner than `Retry-After` asks for: a soak is no polite client.
        asyncio.get_running_loop().call_later(0.2, self.waiting.append, number)

    async def sign(self, url: str, connections: int) -> None:
        """Sign until `ended`, and then until everybody has been answered."""
        async with Pool(url, connections, self.take, self.settle) as pool:
            patience = float(_PATIENCE)
            while patience > 0 and not (self.ended and len(self.ids) == self.asked):
                pool.wake()
                await asyncio.sleep(_STEP)
                patience -= _STEP if self.ended else 0


def main(
    seconds: Annotated[float, typer.Option(min=5, help="How long to go on killing.")] = 120,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the API.")] = 2,
    connections: Annotated[int, typer.Option(min=1)] = 64,
    seed: Annotated[int | None, typer.Option(help="Of the moments at which to kill.")] = None,
) -> None:
    """Kill and restart for a while, then look for what was lost; status 1 when anything was."""
    chance = random.Random(seed)
    with stage() as (cluster, services, _), services.database("soak") as database:
        server = services.server(database, workers)
        try:
            server.start()
            with _signing(server, connections) as signers:
                recoveries = list(_kill_again_and_again(cluster, server, signers, seconds, chance))
            server.end(60)
        finally:
            server.kill()
        rows = _looked_for(signers, recoveries, services, database)
    Console().print(report.table(rows))
    path = report.write_json("soak", rows, {"recoveries": recoveries})
    _told.print("Written:", path.relative_to(report.OUT.parent.parent))
    if any(row.verdict == "MISS" for row in rows):
        raise typer.Exit(1)


@contextlib.contextmanager
def _signing(server: Server, connections: int) -> Iterator[Signers]:
    signers = Signers()
    thread = threading.Thread(target=lambda: uvloop.run(signers.sign(server.url, connections)))
    thread.start()
    try:
        yield signers
    finally:
        signers.ended = True
        thread.join()


def _kill_again_and_again(
    cluster: Cluster, server: Server, signers: Signers, seconds: float, chance: random.Random
) -> Iterator[tuple[str, float]]:
    """Victims, and the seconds from the kill to the first answer after it."""
    until = time.monotonic() + seconds
    for victim in itertools.cycle(_VICTIMS):
        time.sleep(chance.uniform(1, 4))
        if time.monotonic() > until:
            return
        killed = time.monotonic()
        _kill(victim, cluster, server)
        back = time.monotonic()
        while signers.last_answer < back and time.monotonic() < back + _PATIENCE:
            time.sleep(_STEP)
        took = time.monotonic() - killed
        _told.print(f"killed {victim}: next answer after {took:.1f} s; {len(signers.ids):,} signed so far")
        yield victim, round(took, 2)


def _kill(victim: str, cluster: Cluster, server: Server) -> None:
    if victim != "PostgreSQL":
        server.kill()
    if victim != "the API":
        cluster.kill()
        cluster.restart()
    if victim != "PostgreSQL":
        server.start()


def _looked_for(
    signers: Signers, recoveries: list[tuple[str, float]], services: Services, database: SqlDatabase
) -> list[Row]:
    stored = {row[0]: row[1] for row in database.rows("SELECT signer, id FROM signatures")}
    ring = KeyRing.parse(services.secret)
    missing = other_id = 0
    for number, told in signers.ids.items():
        address = people.email(_GROUP.encode(), number).decode()
        kept = stored.get(ring.digest(emails.canonical(address)))
        missing += kept is None
        # Whoever asked more than once may have been counted by an attempt whose answer was lost.
        other_id += kept not in {None, told} and number not in signers.asked_again
    total = database.value("SELECT sum(signature_count)::bigint FROM signature_tallies WHERE dimension = 'total'")
    agrees = 0.0
    with contextlib.suppress(RuntimeError):
        services.call(database, "tally", "verify", "--json")
        agrees = 1.0
    slowest = max((seconds for _, seconds in recoveries), default=0.0)
    return [
        Row("acknowledged signatures", len(signers.ids), "", at_least(1), f"{len(recoveries)} kills"),
        Row("acknowledged and missing", missing, "", at_most(0)),
        Row("acknowledged under another id than the stored one", other_id, "", at_most(0)),
        Row("rows more than acknowledged", len(stored) - len(signers.ids), "", at_most(0)),
        Row("people never answered", signers.asked - len(signers.ids), "", at_most(0)),
        Row("total of the tallies less rows", abs(total - len(stored)), "", at_most(0)),
        Row("`tally verify` agrees (1 is yes)", agrees, "", at_least(1)),
        Row("answers other than 201 and 503", len(signers.other), "", at_most(0), str(signers.other or "")),
        Row("slowest recovery: kill to next answer", slowest, "s", None),
        Row("told to come back (503)", signers.busy, ""),
        Row("connections lost while waiting", signers.lost, ""),
    ]


if __name__ == "__main__":
    cli = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    cli.command()(main)
    cli()
