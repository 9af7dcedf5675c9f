"""What the clock tells a stranger, to a tenth of the time: nothing, of who had signed and of who is a partner."""

import httpx
import pytest

from app.kit.database.ids import uuid7
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.partners.inbound.secrets.service import add
from app.signatures.signing.sealing import write_receipt
from tests.support.attempts import signer_of
from tests.support.factories import insert_petition, person
from tests.support.partner_posts import LINES, item, lines, signed
from tests.support.partners import insert_partner
from tests.support.settings import RING
from tests.support.timing_samples import PAIRS, Ask, compare
from tests.support.types import Json

pytestmark = pytest.mark.slow

AT = "/v1/petitions/end-the-ban"
# Parts of the median time. Where somebody signs again a row more is written; where another attempt comes to stand, rows
# move: nobody can ask that twice of one receipt (`docs/privacy.md`, honest limits).
SAME_STATEMENTS, ONE_ROW_MORE, ROWS_THAT_MOVE = 0.03, 0.1, 0.25
# Fewer pairs where each takes up to six requests: the interval is wider by as much.
FEWER = 400
# Seconds: about what signing again took longer before.
ADDED = 80e-6


async def post(client: httpx.AsyncClient, url: str, body: Json, status: int) -> httpx.Response:
    answer = await client.post(url, json=body)
    assert answer.status_code == status, answer.text
    return answer


async def sign(client: httpx.AsyncClient, body: Json) -> str:
    receipt: str = (await post(client, f"{AT}/signatures", body, 201)).json()["receipt"]
    return receipt


def signing(client: httpx.AsyncClient, body: Json) -> Ask:
    return lambda: post(client, f"{AT}/signatures", body, 201)


def withdrawing(client: httpx.AsyncClient, receipt: str) -> Ask:
    return lambda: post(client, f"{AT}/withdrawals", {"receipt": receipt}, 200)


@pytest.mark.parametrize("confirmation", ["none", "email"])
async def test_signing_again_takes_as_long_as_signing(
    client: httpx.AsyncClient, database: Database, confirmation: str
) -> None:
    await insert_petition(database, confirmation=confirmation)

    async def pair(number: int) -> tuple[Ask, Ask]:
        known = person(2 * number)
        await sign(client, known)
        return signing(client, person(2 * number + 1)), signing(client, known)

    found = await compare(pair)
    assert found.is_alike(ONE_ROW_MORE), str(found)


async def test_the_comparison_finds_what_is_added_and_nothing_where_nothing_is(
    client: httpx.AsyncClient, database: Database
) -> None:
    """The control: it could find less than the old difference."""
    await insert_petition(database, confirmation="email")

    async def pair(number: int) -> tuple[Ask, Ask]:
        return signing(client, person(2 * number + 1)), signing(client, person(2 * number))

    nothing = await compare(pair)
    assert nothing.low < ADDED / 2, str(nothing)
    assert nothing.high > -ADDED / 2, str(nothing)
    assert nothing.is_alike(SAME_STATEMENTS), str(nothing)
    found = await compare(lambda number: pair(number + PAIRS), added=ADDED)
    assert found.low > 0, str(found)


@pytest.mark.parametrize("other", ["waits", "opens nothing", "is followed"])
async def test_withdrawing_takes_as_long_whatever_the_receipt_opens(
    client: httpx.AsyncClient, database: Database, other: str
) -> None:
    """Beside the receipt of the only attempt of somebody: of one that waits, of none, of one that another follows."""
    petition_id = await insert_petition(database, confirmation="email")

    async def pair(number: int) -> tuple[Ask, Ask]:
        one, two = person(2 * number), person(2 * number + 1)
        alone, first = await sign(client, one), await sign(client, two)
        if other == "opens nothing":
            return withdrawing(client, alone), withdrawing(
                client, write_receipt(RING, petition_id, signer_of(two), uuid7())
            )
        second = await sign(client, two)
        return withdrawing(client, alone), withdrawing(client, first if other == "is followed" else second)

    found = await compare(pair, FEWER)
    assert found.is_alike(ROWS_THAT_MOVE if other == "is followed" else ONE_ROW_MORE), str(found)


async def test_posting_for_a_partner_takes_as_long_as_for_nobody(client: httpx.AsyncClient, database: Database) -> None:
    organization_id, _ = await insert_partner(database, "sisters")
    async with database.transaction() as session:
        await add(session, RING, await session.get_one(Organization, organization_id), "standard")
    body = lines(item(1))

    def posting(slug: str) -> Ask:
        headers = {"content-type": LINES, **signed("whsec_" + "A" * 43 + "=", body)}

        async def ask() -> httpx.Response:
            answer = await client.post(f"/v1/partners/{slug}/signatures", content=body, headers=headers)
            assert answer.status_code == 401
            return answer

        return ask

    async def pair(_: int) -> tuple[Ask, Ask]:
        return posting("sisters"), posting("brother")

    found = await compare(pair, 1000)
    assert found.is_alike(ONE_ROW_MORE), str(found)
