"""What partners bring in their free texts does not stand in clear either; a source of theirs is tallied as theirs."""

import httpx
import pytest

from app.kit.database.session import Database
from app.settings import Settings
from tests.support.databases import run
from tests.support.foreign_payloads import (
    ACTION_NETWORK,
    action_network_item,
    helper_body,
    new_secret,
    osdi_token,
    signature_rows,
)
from tests.support.foreign_payloads import unsealed_signatures as unsealed
from tests.support.partner_posts import Poster, item
from tests.support.partners import PETITION, SLUG, Partner

SECRET_REGION, SECRET_SOURCE = "Amina of Kololo", "tell-amina-at-7"
ADDRESS = {"primary": True, "region": SECRET_REGION, "country": "UG"}


async def bring(client: httpx.AsyncClient, database: Database, settings: Settings, partner: Partner, way: str) -> None:
    referrer = {"source": SECRET_SOURCE}
    if way == "webhook":
        (result,) = await Poster(client, partner).bring(item(1, region=SECRET_REGION, source=SECRET_SOURCE))
        assert result["status"] == "counted"
        return
    if way == "osdi":
        at, headers = f"/v1/osdi/petitions/{PETITION}/record_signature_helper", osdi_token(partner)
        body = helper_body(referrer_data=referrer)
        body["person"]["postal_addresses"] = [ADDRESS]
        answer = await client.post(at, json=body, headers=headers)
    else:
        await run(database, "UPDATE petitions SET opens_at = '2020-01-01Z'")
        key = await new_secret(database, settings, partner, "action_network")
        body = action_network_item(postal_addresses=[ADDRESS])
        body["osdi:signature"]["action_network:referrer_data"] = referrer
        answer = await client.post(f"{ACTION_NETWORK}/{key}", json=[body])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("way", ["webhook", "osdi", "action-network"])
async def test_a_partners_free_text_is_sealed_and_its_source_is_tallied_under_its_name(
    client: httpx.AsyncClient, database: Database, settings: Settings, partnership: Partner, way: str
) -> None:
    await bring(client, database, settings, partnership, way)
    assert await signature_rows(database) == [("confirmed", "UG", "other", SLUG)]
    (personal,) = await unsealed(database, settings)
    assert (personal.unlisted_region, personal.unlisted_source) == (SECRET_REGION, SECRET_SOURCE)
    keys = {row[0] for row in await run(database, "SELECT key FROM signature_tallies")}
    assert {"UG/other", SLUG} <= keys


async def test_what_staff_have_allowed_a_partner_may_say(
    client: httpx.AsyncClient, database: Database, partnership: Partner
) -> None:
    await run(database, "UPDATE petitions SET allowed_sources = ARRAY['spring-mailing']")
    poster = Poster(client, partnership)
    await poster.bring(item(1, source="Spring-Mailing"), item(2, source="newsletter"), item(3))
    assert {row[3] for row in await signature_rows(database)} == {"spring-mailing", "newsletter", ""}
