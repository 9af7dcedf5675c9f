"""One registry of message types: a room brings a type of its own, and everything that is derived knows it."""

from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from app.kit.database.outbox import NewMessage
from app.kit.database.session import Database
from app.kit.webhooks.message_types import Audience, MessageType, MessageTypes
from app.partners.outbound.endpoints.schemas import schemas_for
from app.partners.outbound.message_types.bodies import bodies_of
from app.partners.outbound.message_types.fan_out import FanOut
from app.partners.outbound.message_types.openapi import webhooks_router
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from tests.support.outbox import insert_mute_endpoint, pending, publish_all
from tests.support.partners import Partner
from tests.support.settings import RING


class Content(BaseModel):
    """What the outbox row holds."""

    number: int


class Data(BaseModel):
    """What is told."""

    number: int


class Payload(BaseModel):
    """A tree was planted."""

    type: Literal["tree.planted"]
    timestamp: datetime
    data: Data


async def write(session: Any, ring: Any, messages: Any) -> list[Data]:
    del session, ring
    return [Data(number=message.content["number"]) for message in messages]


TREE = MessageType(
    "tree.planted", "a tree was planted", Payload, write, Content, Audience("everybody"), is_ordered=True
)
TYPES = MessageTypes([*MESSAGE_TYPES, TREE])


async def test_a_type_that_another_room_brings_is_told(database: Database, partnership: Partner) -> None:
    wanting = await insert_mute_endpoint(database, partnership.organization_id, TREE.name)
    await insert_mute_endpoint(database, partnership.organization_id, "petition.closed")
    await publish_all(database, NewMessage(TREE.name, {"number": 3}), NewMessage(TREE.name, {"number": "no number"}))
    async with database.transaction() as session:
        assert len(await FanOut(TYPES)(session)) == 2
    (message,) = await pending(database)
    async with database.transaction() as session:
        (body,) = await bodies_of(session, RING, TYPES, [message])
    assert message.endpoint_id == wanting
    assert body is not None
    assert Payload.model_validate_json(body).data == Data(number=3)


@pytest.mark.parametrize(("rule", "count"), [("movement", 0), ("covered", 0), ("everybody", 1)])
async def test_an_audience_says_who_hears(database: Database, partnership: Partner, rule: str, count: int) -> None:
    await insert_mute_endpoint(database, partnership.organization_id, TREE.name)
    await publish_all(database, NewMessage(TREE.name, {"number": 3}))
    types = MessageTypes([*MESSAGE_TYPES, replace(TREE, audience=Audience(rule))])
    async with database.transaction() as session:
        await FanOut(types)(session)
    assert len(await pending(database)) == count


def test_a_new_type_can_be_asked_for_and_is_described() -> None:
    body = {"url": "https://hooks.example.org/", "types": [TREE.name]}
    assert schemas_for(TYPES).body.model_validate(body).types == [TREE.name]
    with pytest.raises(ValueError, match=r"petition\.published"):
        schemas_for(MessageTypes(MESSAGE_TYPES)).body.model_validate(body)
    described = FastAPI(webhooks=webhooks_router(TYPES)).openapi()["webhooks"]
    assert list(described) == [one.name for one in TYPES]
    assert described[TREE.name]["post"]["description"] == "A tree was planted."


def test_what_does_not_fit_together_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"two message types of the name tree\.planted"):
        MessageTypes([TREE, TREE])
    with pytest.raises(ValueError, match=r"both a content and an audience"):
        replace(TREE, audience=None)
    with pytest.raises(ValueError, match=r"no rule of an audience of the name nobody"):
        FanOut(MessageTypes([*MESSAGE_TYPES, replace(TREE, audience=Audience("nobody"))]))


async def test_an_endpoint_may_ask_for_types_of_the_registry_only(client: httpx.AsyncClient, partner: Any) -> None:
    body = {"url": "https://hooks.example.org/", "types": ["person.erased", TREE.name]}
    answer = await client.post("/v1/organizations/sisters-of-kampala/webhook-endpoints", json=body, headers=partner)
    assert answer.status_code == 422
    assert [error["at"] for error in answer.json()["errors"]] == ["body.types.1"]
