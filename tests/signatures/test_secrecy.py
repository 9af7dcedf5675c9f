"""Whoever steals the database, or reads any log, learns nobody's name."""

import base64
from collections.abc import Awaitable, Callable
from dataclasses import replace

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from app.kit.crypto.sealing import KeyRing, SealBrokenError
from app.kit.database.session import Database, driver_url
from app.settings import Settings
from app.signatures.signing.prepare import consents_of
from app.signatures.signing.sealing import texts_of, unseal
from tests.support.databases import run
from tests.support.factories import person
from tests.support.postgres import Cluster

Sign = Callable[..., Awaitable[httpx.Response]]
SECRETS = {
    "given_name": "Aminatou-Secret",
    "family_name": "Okello-Secret",
    "email": "amina.secret@example.org",
    "postal_code": "POSTAL-SECRET",
    "comment": "My sister was jailed: secret.",
    "referral": "my friend secret",
}
CONSENT = {"organization": "movement", "purpose": "news", "given": True, "text_version": None, "page": "page-secret"}
AMINA = person(1, **SECRETS, country="UG", region="Kampala", locale="sw", consents=[CONSENT])


@pytest.fixture
def url(own_url: str) -> str:
    """A database of this test's own: one of them adds a trigger."""
    return own_url


def assert_secret(text: str) -> None:
    """Nothing personal is in it, in no case and no encoding a dump would use."""
    # The name of a table.
    lowered = text.lower().replace("webhook_secrets", "")
    for secret in ("secret", "amina", "okello", "sister", "example.org"):
        assert secret not in lowered
        assert secret.encode().hex() not in lowered
    for secret in SECRETS.values():
        assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-1] not in text


async def test_a_dump_names_nobody(
    sign: Sign, client: httpx.AsyncClient, database: Database, cluster: Cluster, url: str
) -> None:
    told = (await sign(AMINA)).json()
    await sign(AMINA | {"comment": "Another secret"})
    await sign(AMINA | {"email": "another.secret@gmail.com", "source": "paper"})
    withdrawn = (await sign(AMINA | {"email": "gone.secret@example.org"})).json()
    await client.post(told["links"]["withdraw"], json={"receipt": withdrawn["receipt"]})
    dumped = cluster.dump(url)
    assert "COPY public.signatures " in dumped
    assert "Kampala" in dumped, "the dump holds what was signed"
    assert_secret(dumped)
    tables = await run(database, "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    for (table,) in tables:
        rows = await run(database, f'SELECT t::text FROM "{table}" t')
        assert_secret("\n".join(row[0] for row in rows))
        assert told["receipt"] not in str(rows)


async def test_what_is_sealed_opens_with_the_ring_alone_and_only_in_its_place(
    sign: Sign, database: Database, settings: Settings
) -> None:
    await sign(AMINA)
    await sign(AMINA | {"email": "another.secret@example.org"})
    rows = await run(database, "SELECT petition_id, signer, sealed FROM signatures")
    ring = settings.key_ring
    opened = [unseal(ring, *row) for row in rows]
    mine = next(personal for personal in opened if personal.email == SECRETS["email"])
    for name, value in SECRETS.items():
        assert getattr(mine, name) == value
    assert mine.locale == "sw"
    assert [consent.model_dump() for consent in consents_of(mine)] == [CONSENT]
    more = {"locale", "comment", "referral", "consents", "reference", "unlisted_region", "unlisted_source"}
    assert set(texts_of(mine)) == {*list(SECRETS)[:4], *more}
    (petition_id, one, sealed), (_, other, _) = rows
    rings = (ring, KeyRing.parse("another-secret-that-is-only-for-tests"))
    for opening, signer, value in ((rings[1], one, sealed), (ring, other, sealed), (ring, one, sealed[:-1] + b"x")):
        with pytest.raises(SealBrokenError):
            unseal(opening, petition_id, signer, value)


async def test_a_ring_that_has_rotated_opens_what_older_keys_sealed(
    sign: Sign, database: Database, settings: Settings
) -> None:
    await sign(AMINA)
    row = (await run(database, "SELECT petition_id, signer, sealed FROM signatures"))[0]
    old = settings.secret_keys.get_secret_value()
    rotated = KeyRing.parse(f"a-new-secret-that-is-only-for-tests-2,{old}")
    assert rotated.digest_key == settings.key_ring.digest_key
    assert unseal(rotated, *row).email == SECRETS["email"]
    assert rotated.seal(b"", b"")[:2] != row.sealed[:2] == settings.key_ring.current_id
    forgetful = replace(rotated, ciphers={rotated.current_id: rotated.ciphers[rotated.current_id]})
    with pytest.raises(SealBrokenError):
        unseal(forgetful, *row)


async def test_no_log_names_anybody_even_when_things_go_wrong(
    sign: Sign, client: httpx.AsyncClient, database: Database, cluster: Cluster, url: str
) -> None:
    await run(
        database,
        "CREATE FUNCTION quote() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'a row broke: amina.secret@example.org %', NEW USING ERRCODE = 'check_violation';"
        " END $$",
    )
    await run(database, "CREATE TRIGGER quote BEFORE INSERT ON signatures FOR EACH ROW EXECUTE FUNCTION quote()")
    with capture_logs() as logs:
        broken = await sign(AMINA)
        wrong = await sign(AMINA | {"country": "Aminatou-Secret"})
        lost = await sign(AMINA, "/v1/petitions/amina.secret@example.org")
        await client.get("/v1/petitions/end-the-ban/tally?by=Aminatou-Secret")
    assert (broken.status_code, wrong.status_code, lost.status_code) == (500, 422, 404)
    assert logs, "the failure is told"
    connection = await asyncpg.connect(driver_url(url))
    with pytest.raises(asyncpg.PostgresError):
        await connection.execute("INSERT INTO signatures (region) VALUES ('Aminatou-Secret')")
    with pytest.raises(asyncpg.PostgresError):
        await connection.fetchval("SELECT $1::text::int", "Aminatou-Secret")
    await connection.close()
    assert_secret(str(logs))
    assert_secret(broken.text + wrong.text + lost.text)
    assert_secret(cluster.log())
