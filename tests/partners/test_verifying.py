"""Who may post: whoever has signed it just now with a live secret of the partner; everybody else is told the same."""

import base64
import time
from datetime import timedelta

import httpx
import pytest

from app.kit.clock import now
from app.kit.database.session import Database
from app.organizations.models import Organization
from app.organizations.queries import find
from app.partners.inbound.secrets.service import add
from app.settings import Settings
from tests.support.databases import run
from tests.support.partner_posts import LINES, Poster, fresh_id, item, lines, signed
from tests.support.partners import PETITION, Partner, insert_partner
from tests.support.tallies import dump_signatures, exact_counts

BODY = lines(item(1))


@pytest.fixture
def poster(client: httpx.AsyncClient, partnership: Partner) -> Poster:
    return Poster(client, partnership)


async def further_secret(database: Database, settings: Settings, partner: Partner, scheme: str = "standard") -> str:
    async with database.transaction() as session:
        organization = await session.get_one(Organization, partner.organization_id)
        _, secret = await add(session, settings.key_ring, organization, scheme)
    return secret


def _refused(answer: httpx.Response) -> dict[str, object]:
    """What whoever is not let in is told."""
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Webhook-Signature"
    problem: dict[str, object] = answer.json()
    assert problem["type"] == "urn:multitude:problem:webhook-not-verified"
    del problem["request_id"]
    return problem


async def test_the_slug_and_the_id_of_a_partner_both_lead_to_it(poster: Poster) -> None:
    assert (await poster.post(BODY)).status_code == 200
    poster.url = f"/v1/partners/{poster.partner.organization_id}/signatures"
    assert (await poster.post(BODY)).json()["duplicate"] == 1


async def test_every_live_secret_opens_and_one_that_was_ended_or_has_expired_does_not(
    poster: Poster, database: Database, settings: Settings
) -> None:
    second = await further_secret(database, settings, poster.partner)
    for secret in (poster.partner.secret, second):
        assert (await poster.send(BODY, signed(secret, BODY))).status_code == 200
    used = "SELECT count(*) FROM webhook_secrets WHERE last_used_at IS NOT NULL"
    assert await run(database, used) == [(2,)]
    revoked = await poster.client.delete(
        f"/v1/partners/{poster.partner.slug}/webhook-secrets/{poster.partner.secret_id}", headers=poster.partner.key
    )
    assert revoked.status_code == 204
    _refused(await poster.send(BODY, signed(poster.partner.secret, BODY)))
    assert (await poster.send(BODY, signed(second, BODY))).status_code == 200
    await run(database, "UPDATE webhook_secrets SET expires_at = :at", at=now() - timedelta(seconds=1))
    _refused(await poster.send(BODY, signed(second, BODY)))


async def test_a_secret_is_good_for_its_partner_and_its_scheme_alone(
    poster: Poster, database: Database, settings: Settings
) -> None:
    other, _ = await insert_partner(database, "others")
    async with database.transaction() as session:
        _, secret = await add(session, settings.key_ring, await session.get_one(Organization, other), "standard")
    _refused(await poster.send(BODY, signed(secret, BODY)))
    shown = await further_secret(database, settings, poster.partner, "controlshift")
    _refused(await poster.send(BODY, signed(f"whsec_{base64.b64encode(shown.encode()).decode()}", BODY)))
    assert (await run(database, "SELECT count(*) FROM webhook_secrets WHERE last_used_at IS NOT NULL")) == [(0,)]


async def test_a_partner_that_is_not_there_is_told_what_a_wrong_signature_is_told(
    poster: Poster, database: Database
) -> None:
    await insert_partner(database, "without-secrets")
    wrong = signed("whsec_" + "A" * 43 + "=", BODY)
    told = [_refused(await poster.send(BODY, wrong))]
    for partner in ("nobody", "movement", "without-secrets", str(poster.partner.partnership_id), "%F0%9F%92%A9"):
        poster.url = f"/v1/partners/{partner}/signatures"
        told.append(_refused(await poster.send(BODY, wrong)))
        told.append(_refused(await poster.send(BODY, signed(poster.partner.secret, BODY))))
    assert told == [told[0]] * len(told)


async def test_the_movement_is_no_partner_whatever_signs(
    poster: Poster, database: Database, settings: Settings
) -> None:
    async with database.transaction() as session:
        movement = await find(session, "movement")
        assert movement is not None
        _, secret = await add(session, settings.key_ring, movement, "standard")
    poster.url = "/v1/partners/movement/signatures"
    _refused(await poster.send(BODY, signed(secret, BODY)))


async def test_a_key_does_not_stand_in_for_a_signature(poster: Poster) -> None:
    _refused(await poster.send(BODY, poster.partner.key))


@pytest.mark.parametrize("minutes", [-6, 6, -60 * 24 * 365, 60 * 24 * 365 * 100])
async def test_a_clock_that_is_far_off_is_told_so_if_the_signature_is_right(
    poster: Poster, database: Database, minutes: int
) -> None:
    at = time.time() + minutes * 60
    told = _refused(await poster.send(BODY, signed(poster.partner.secret, BODY, at=at)))
    assert ("in the past" if minutes < 0 else "in the future") in str(told["detail"])
    assert "detail" not in _refused(await poster.send(BODY + b"\n", signed(poster.partner.secret, BODY, at=at)))
    assert await exact_counts(database) == {PETITION: 0}


@pytest.mark.parametrize("minutes", [-4, 4])
async def test_a_clock_that_is_a_little_off_is_taken(poster: Poster, minutes: int) -> None:
    headers = signed(poster.partner.secret, BODY, at=time.time() + minutes * 60)
    assert (await poster.send(BODY, headers)).status_code == 200


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize(
    "value", [None, b"", b"\xff\xfe", b"v1", b"v1,,", b"nan", b"9" * 400, b" ".join([b"v1,AAAA"] * 500)]
)
async def test_a_malformed_header_is_a_wrong_signature(
    poster: Poster, database: Database, name: str, value: bytes | None
) -> None:
    before = await dump_signatures(database)
    headers = [
        (b"content-type", LINES.encode()),
        *((key.encode(), given.encode()) for key, given in signed(poster.partner.secret, BODY).items() if key != name),
    ]
    if value is not None:
        headers.append((name.encode(), value))
    # An id may be anything that can be printed, so those are wrong signatures, and no worse.
    _refused(await poster.client.post(poster.url, content=BODY, headers=headers))
    assert await dump_signatures(database) == before


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
async def test_a_header_that_is_there_twice_is_a_wrong_signature(poster: Poster, name: str) -> None:
    headers = {"content-type": LINES, **signed(poster.partner.secret, BODY)}
    twice = [*headers.items(), (name, headers[name])]
    _refused(await poster.client.post(poster.url, content=BODY, headers=twice))


async def test_nothing_of_what_was_signed_can_be_exchanged(poster: Poster, database: Database) -> None:
    headers = signed(poster.partner.secret, BODY)
    head, rest = headers["webhook-signature"][3], headers["webhook-signature"][4:]
    for changed in (
        headers | {"webhook-id": fresh_id()},
        headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)},
        headers | {"webhook-signature": "v1," + ("B" if head == "A" else "A") + rest},
    ):
        _refused(await poster.send(BODY, changed))
    _refused(await poster.send(lines(item(2)), headers))
    assert await run(database, "SELECT count(*) FROM received_webhooks") == [(0,)]
    assert (await poster.send(BODY, headers)).status_code == 200
