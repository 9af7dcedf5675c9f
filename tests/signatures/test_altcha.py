"""A petition that asks for work: without a solved challenge nobody signs, and a solution is good once."""

import base64
import json

import altcha
import httpx
import pytest

from app.kit.database.session import Database
from tests.support.factories import insert_petition, person
from tests.support.tallies import exact_counts
from tests.support.types import Json

Headers = dict[str, str]

AT = "/v1/petitions/end-the-ban"


def solved(challenge: Json) -> str:
    """What the widget would put into the form."""
    made = altcha.Challenge.from_dict(challenge)
    solution = altcha.solve_challenge(made)
    assert solution is not None
    return str(altcha.Payload(made, solution).to_base64())


async def challenge_of(client: httpx.AsyncClient, at: str = AT) -> Json:
    answer = await client.get(f"{at}/challenge")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told: Json = answer.json()
    return told


async def sign(client: httpx.AsyncClient, number: int, payload: str | None, at: str = AT) -> httpx.Response:
    more = {} if payload is None else {"altcha": payload}
    return await client.post(f"{at}/signatures", json=person(number, **more))


async def test_whoever_has_done_the_work_signs_once_with_it(client: httpx.AsyncClient, database: Database) -> None:
    await insert_petition(database, challenge="altcha")
    await insert_petition(database, "another", challenge="altcha")
    payload = solved(await challenge_of(client))
    elsewhere = solved(await challenge_of(client, "/v1/petitions/another"))
    assert (await sign(client, 1, payload)).status_code == 201
    forged = json.loads(base64.b64decode(payload))
    forged["challenge"]["parameters"]["cost"] = 1
    wrong = [None, "", "nothing", payload, elsewhere, base64.b64encode(json.dumps(forged).encode()).decode()]
    answers = [await sign(client, 2, one) for one in wrong]
    assert {answer.status_code for answer in answers} == {422}
    assert {answer.json()["type"] for answer in answers} == {"urn:multitude:problem:challenge-failed"}
    assert await exact_counts(database) == {"another": 0, "end-the-ban": 1}


async def test_staff_switch_the_work_on_and_off(
    client: httpx.AsyncClient, database: Database, campaigner: Headers
) -> None:
    await insert_petition(database)
    assert (await sign(client, 1, None)).status_code == 201
    answer = await client.patch(AT, json={"challenge": "altcha"}, headers=campaigner)
    assert answer.json()["challenge"] == "altcha"
    client_sees = (await client.get(AT)).json()["challenge"]
    assert client_sees == "altcha"
    await client.patch(AT, json={"challenge": "none"}, headers=campaigner)
    assert (await client.get(AT)).json()["challenge"] == "none"


@pytest.mark.parametrize("value", ["captcha", "", None, 1])
async def test_there_is_no_other_work(
    client: httpx.AsyncClient, database: Database, campaigner: Headers, value: object
) -> None:
    await insert_petition(database)
    answer = await client.patch(AT, json={"challenge": value}, headers=campaigner)
    assert answer.status_code == 422
