"""What the clock tells a stranger: a first and a second signing, a receipt that opens something and one that does not.

Both are done in turn, so that whatever else the machine does happens to both. Of two samples that come from the same
source, a time of one is the longer half of the time; that share is what is looked at (Mann and Whitney's U, divided by
the number of pairs).
"""

import time
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Sequence

import httpx
import pytest

from app.kit.database.session import Database
from tests.support.factories import insert_petition, person
from tests.support.tallies import exact_counts
from tests.support.types import Json

pytestmark = pytest.mark.slow


PAIRS = 300
AT = "/v1/petitions/end-the-ban"
Ask = Callable[[], Awaitable[httpx.Response]]


def share_longer(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How often one of ours is longer than one of theirs: 0.5 when they cannot be told apart."""
    ordered = sorted(theirs)
    wins = sum((bisect_left(ordered, one) + bisect_right(ordered, one)) / 2 for one in ours)
    return wins / (len(ours) * len(theirs))


async def timed(ask: Awaitable[httpx.Response], status: int) -> tuple[float, httpx.Response]:
    began = time.perf_counter()
    answer = await ask
    took = time.perf_counter() - began
    assert answer.status_code == status
    return took, answer


def shape(answer: httpx.Response) -> tuple[object, ...]:
    """All a stranger can see but the values that are random by nature."""
    told: Json = answer.json()
    lengths = {name: len(str(value)) for name, value in told.items()}
    headers = [(name, len(value)) for name, value in answer.headers.items()]
    return answer.status_code, headers, lengths, told.get("status"), told.get("links")


@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_signing_again_looks_like_signing(
    client: httpx.AsyncClient, database: Database, confirmation: str
) -> None:
    await insert_petition(database, confirmation=confirmation)
    url = f"{AT}/signatures"
    # How long it takes is measured by more pairs (`test_timing_samples.py`).
    bodies = [body for number in range(30) for body in (person(number), person(30 + number), person(number))]
    shapes = {repr(shape(await client.post(url, json=body))) for body in bodies}
    assert len(shapes) == 1


async def test_a_receipt_that_opens_nothing_takes_as_long_as_one_that_does(
    client: httpx.AsyncClient, database: Database
) -> None:
    await insert_petition(database)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for number in range(PAIRS):
        one, two = person(2 * number), person(2 * number + 1)
        receipt = (await client.post(f"{AT}/signatures", json=one)).json()["receipt"]
        await client.post(f"{AT}/signatures", json=two)
        nothing = (await client.post(f"{AT}/signatures", json=two)).json()["receipt"]
        # Each comes first as often as the other.
        for opens in (True, False) if number % 2 else (False, True):
            body = {"receipt": receipt if opens else nothing}
            took, _ = await timed(client.post(f"{AT}/withdrawals", json=body), 200)
            taken[opens].append(took)
    real, empty = taken[True], taken[False]
    assert 0.4 < share_longer(real, empty) < 0.6
    assert await exact_counts(database) == {"end-the-ban": PAIRS}
