"""What partners bring by webhook: how fast, in how much memory, and what it does to those who sign meanwhile."""

import asyncio
import io
import subprocess
import time
from collections.abc import Iterator
from statistics import median

import asyncpg
import httpx

from bench import load
from bench.bringing import ITEMS, Brought, Partner, bringing, result
from bench.rows import Row, at_least, at_most
from bench.scenarios import Bench
from bench.servers import largest_rss
from bench.service import Service
from tests.support.postgres import SqlDatabase

_CONNECTIONS = 4
_POSTS = 24
_SIGNERS = 64
_SLUG = "bench-partner"


def partner_of(bench: Bench, service: Service, petition: str = "p0") -> Partner:
    """A partner invited to the campaign of that petition, as staff and the partner would do it; and its secret."""
    staff = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, timeout=30, trust_env=False) as client:

        def call(path: str, body: object, headers: dict[str, str]) -> dict[str, str]:
            answer = client.post(path, json=body, headers=headers)
            if answer.is_error:
                raise RuntimeError(f"POST {path} answered {answer.status_code}: {answer.text}")
            made: dict[str, str] = answer.json()
            return made

        call("/v1/organizations", {"slug": _SLUG, "name": "A partner"}, staff)
        key = bench.services.call(service.database, "keys", "create", "--organization", _SLUG, "--role", "partner")
        own = {"Authorization": f"Bearer {key}"}
        invited = call(f"/v1/campaigns/{petition}-campaign/partnerships", {"organization": _SLUG, "terms": "T"}, staff)
        call(f"/v1/partnerships/{invited['id']}/accept", None, own)
        secret = call(f"/v1/partners/{_SLUG}/webhook-secrets", {}, own)["secret"]
    return Partner(_SLUG, secret, petition)


def brought(bench: Bench) -> Iterator[Row]:
    """NDJSON of 10,000 from 4 connections, next to `COPY` of the very same rows into a copy of the same table."""
    ratios, rates, copies, highest = [], [], [], 0.0
    with bench.services.running("brought") as service:
        partner = partner_of(bench, service)
        for number in range(bench.rounds + 1):
            bench.say(f"partner posts {_POSTS} times {ITEMS:,}, round {number} of {bench.rounds}")
            posted, rss = _measured(service, partner)
            highest = max(highest, rss)
            copied = asyncio.run(_copied(service.database, posted.counted))
            if number:  # the first is to warm up
                ratios.append(posted.per_second / copied)
                rates.append(posted.per_second)
                copies.append(copied)
        _check(service.database)
    note = f"{median(rates):,.0f}/s against {median(copies):,.0f}/s; rounds {min(ratios):.2f}-{max(ratios):.2f}"
    yield Row(f"partners' NDJSON / COPY, {_CONNECTIONS} connections", median(ratios), "x", at_least(0.5), note)
    yield Row("memory while partners post", highest, "MiB", at_most(200), "the serving process, at the most")


def _measured(service: Service, partner: Partner) -> tuple[Brought, float]:
    """One load of posts, and the highest resident memory meanwhile, in MiB."""
    highest = 0.0
    with bringing(service.url, partner, _CONNECTIONS, _POSTS) as process:
        while process.poll() is None:
            highest = max(highest, largest_rss(service.server))
            time.sleep(0.05)
        posted = result(process)
    if posted.failed:
        raise RuntimeError(f"{posted.failed} of {posted.posts} posts failed")
    return posted, highest


async def _copied(database: SqlDatabase, count: int) -> float:
    """Rows a second: the newest of the table, in the order in which they came, into an empty copy of it."""
    connection = await asyncpg.connect(database.url)
    rows = io.BytesIO()
    # Of a table that only grows the last pages hold the newest.
    newest = f"SELECT * FROM signatures ORDER BY ctid DESC LIMIT {count}"
    await connection.copy_from_query(f"SELECT * FROM ({newest}) AS n", output=rows, format="binary")
    await connection.execute("DROP TABLE IF EXISTS copied; CREATE TABLE copied (LIKE signatures INCLUDING ALL)")
    rows.seek(0)
    began = time.monotonic()
    await connection.copy_to_table("copied", source=rows, format="binary")
    seconds = time.monotonic() - began
    await connection.execute("DROP TABLE copied")
    await connection.close()
    return count / seconds


def _check(database: SqlDatabase) -> None:
    """An error unless every dimension sums to what is there. One statement: posts may still be under way."""
    count, sums = database.rows(
        "SELECT (SELECT count(*) FROM signatures WHERE state = 'confirmed'), array(SELECT DISTINCT summed FROM"
        " (SELECT sum(signature_count)::bigint AS summed FROM signature_tallies GROUP BY dimension) AS s)"
    )[0]
    if sums != [count]:
        raise RuntimeError(f"tallies say {sums}, and there are {count} rows")


def beside(bench: Bench) -> Iterator[Row]:
    """People sign one by one while a partner posts all it can."""
    alone, shared, slowest = [], [], []
    with bench.services.running("beside") as service:
        partner = partner_of(bench, service)
        load.sign(service.url, connections=_SIGNERS, seconds=bench.seconds)
        for _ in range(bench.rounds):
            _let_it_rest(service.database)
            alone.append(load.sign(service.url, connections=_SIGNERS, seconds=bench.seconds))
            with bringing(service.url, partner, _CONNECTIONS) as process:
                bench.say("people sign while a partner posts")
                shared.append(load.sign(service.url, connections=_SIGNERS, seconds=bench.seconds))
                slowest.append(_ended(process).per_second)
        _check(service.database)
    ratio = median(s.per_second for s in shared) / median(a.per_second for a in alone)
    note = (
        f"{median(s.per_second for s in shared):,.0f}/s against {median(a.per_second for a in alone):,.0f}/s; "
        f"the partner meanwhile {median(slowest):,.0f}/s"
    )
    yield Row(f"signing while a partner posts / alone, {_SIGNERS} connections", ratio, "x", at_least(0.6), note)
    p99 = max(s.p99_ms for s in shared)
    note = f"alone {max(a.p99_ms for a in alone):.0f} ms"
    yield Row("99th percentile of signing meanwhile", p99, "ms", at_most(250), note)


def _let_it_rest(database: SqlDatabase) -> None:
    """Wait until nothing of the last round is counted any more, and it is written to disk."""
    counted = -1
    while counted != (counted := database.value("SELECT count(*) FROM signatures")):
        time.sleep(1)
    database.run("VACUUM ANALYZE signatures", "CHECKPOINT")


def _ended(process: subprocess.Popen[str]) -> Brought:
    process.terminate()
    return result(process)
