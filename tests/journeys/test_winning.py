"""Staff run a campaign from its draft until it is won."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx

from app.kit.database.session import Database
from tests.support.application import sweep
from tests.support.factories import UNPROVEN, person
from tests.support.tallies import exact_counts
from tests.support.types import Json

Headers = dict[str, str]
Ask = Callable[..., Awaitable[Json]]
CAMPAIGN, PETITION = "/v1/campaigns/end-the-ban", "/v1/petitions/repeal-the-act"


def asking(client: httpx.AsyncClient, staff: Headers) -> Ask:
    async def ask(method: str, path: str, body: object = None, status: int = 200) -> Json:
        answer = await client.request(method, path, json=body, headers=staff)
        assert answer.status_code == status, answer.text
        told: Json = answer.json()
        return told

    return ask


async def _make_staff(owner: Ask) -> tuple[Headers, Headers]:
    """The owner makes keys for those who do the work."""
    headers = []
    for role in ("campaigner", "analyst"):
        made = await owner("POST", "/v1/organizations/movement/api-keys", {"role": role}, status=201)
        headers.append({"Authorization": f"Bearer {made['key']}"})
    return headers[0], headers[1]


async def _draft(staff: Ask) -> None:
    goal = {"statement": "No country punishes love", "metric": {"name": "countries", "start": 76, "target": 0}}
    campaign = {"slug": "end-the-ban", "title": "End the ban", "goal": goal, "state": "draft"}
    await staff("POST", "/v1/campaigns", campaign, status=201)
    await staff("PUT", f"{CAMPAIGN}/targets", [{"name": "The minister", "role": "Justice"}])
    petition = {
        "slug": "repeal-the-act",
        "title": "Repeal the Act",
        "ask": "Repeal it.",
        "signature_goal": 10,
        **UNPROVEN,
        "texts": {"fr": {"title": "Abrogez la loi", "ask": "Abrogez-la."}},
        "milestones": [{"signature_count": 5, "label": "Five of us"}],
    }
    drafted = await staff("POST", f"{CAMPAIGN}/petitions", petition, status=201)
    assert drafted["state"] == "draft"


async def test_a_campaign_from_draft_to_won(client: httpx.AsyncClient, database: Database, owner: Headers) -> None:
    campaigner, analyst = await _make_staff(asking(client, owner))
    staff, public, counting = (asking(client, who) for who in (campaigner, {}, analyst))
    await _draft(staff)
    await public("GET", CAMPAIGN, status=404)
    await public("GET", PETITION, status=404)
    await public("POST", f"{PETITION}/signatures", person(1), status=404)

    await staff("PATCH", CAMPAIGN, {"state": "active"})
    assert (await staff("POST", f"{PETITION}/publish"))["state"] == "open"
    assert (await public("GET", CAMPAIGN))["goal"]["metric"]["current"] == 76
    answer = await client.get(PETITION, headers={"Accept-Language": "fr-CA"})
    assert answer.json()["title"] == "Abrogez la loi"

    crowd = [person(number, "UG" if number < 8 else "FR", source="letter") for number in range(12)]
    await asyncio.gather(*(public("POST", f"{PETITION}/signatures", body, status=201) for body in [*crowd, *crowd]))
    await sweep(database)
    told = await public("GET", PETITION)
    reached = {one["signature_count"]: one["reached_signature_count"] for one in told["milestones"]}
    assert (reached, told["signature_goal"]) == ({5: 12, 10: 12}, 100)
    assert (await public("GET", f"{PETITION}/count"))["signature_count"] == 12
    by_country = await public("GET", f"{PETITION}/tally?by=country")
    assert by_country["rows"] == [{"key": "other", "signature_count": 12}]
    by_source = await counting("GET", f"{PETITION}/tally?by=source")
    assert by_source["rows"] == [{"key": "letter", "signature_count": 12}]

    await staff("POST", f"{CAMPAIGN}/updates", {"title": "We delivered it", "text": "All of it."}, status=201)
    await staff("POST", f"{PETITION}/close")
    await public("POST", f"{PETITION}/signatures", person(99), status=409)
    won = {"state": "won", "outcome": "The Act was repealed."}
    assert (await staff("PATCH", CAMPAIGN, won))["state"] == "won"
    shown = await public("GET", CAMPAIGN)
    assert (shown["outcome"], shown["updates"][0]["title"]) == ("The Act was repealed.", "We delivered it")
    assert await exact_counts(database) == {"repeal-the-act": 12}
