"""Every act of staff and partners, and every look at names, is entered: no route that takes a key can leave it out."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from app.organizations.audit.declaration import declaration_of
from app.organizations.auth import roles_of
from app.organizations.principals import STAFF_ROLES
from tests.support.api_surface import DESCRIBED, House
from tests.support.databases import run
from tests.support.types import Json

KEY_HOLDERS = {*STAFF_ROLES, "partner"}
# What tells who somebody is. The `contact` of an endpoint is an address, of one person as likely as of an office.
# The answer of an endpoint may quote what it was sent.
PERSONAL = {"given_name", "family_name", "email", "phone", "postal_code", "comment", "contact", "DeliveryAttemptView"}
COMPONENTS: Json = DESCRIBED.openapi()["components"]["schemas"]


def _routes() -> Iterator[tuple[str, str, APIRoute]]:
    """Every route that lets a key of an organization pass, as (method, path, route)."""
    for context in iter_route_contexts(DESCRIBED.routes):
        route = context.original_route
        if isinstance(route, APIRoute) and (roles_of(route.dependant) or frozenset()) & KEY_HOLDERS:
            for method in context.methods or ():
                yield method, context.path or "", route


ROUTES = {f"{method} {path}": route for method, path, route in _routes()}
ACTS = {call for call in ROUTES if not call.startswith(("GET ", "HEAD "))}


def _names(schema: Any, seen: set[str]) -> Iterator[str]:
    """The names of all properties that a schema can have, however deep, and of the schemas that it is made of."""
    if isinstance(schema, list):
        for part in schema:
            yield from _names(part, seen)
    if not isinstance(schema, dict):
        return
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    if reference and reference not in seen:
        seen.add(reference)
        yield reference
        yield from _names(COMPONENTS[reference], seen)
    yield from schema.get("properties", {})
    for part in schema.values():
        yield from _names(part, seen)


def _shown(call: str) -> set[str]:
    method, path = call.split()
    answer = DESCRIBED.openapi()["paths"][path][method.lower()]["responses"]
    return set(_names(answer, set()))


def test_there_are_routes_to_walk() -> None:
    assert len(ACTS) >= 40
    assert "POST /v1/petitions/{petition}/archive" in ACTS


@pytest.mark.parametrize("call", sorted(ACTS))
def test_every_act_says_what_it_is(call: str) -> None:
    assert declaration_of(ROUTES[call].endpoint) is not None


@pytest.mark.parametrize("call", sorted(ROUTES.keys() - ACTS))
def test_every_look_at_names_says_so(call: str) -> None:
    declared = declaration_of(ROUTES[call].endpoint)
    if _shown(call) & PERSONAL or ROUTES[call].response_model is None:
        assert declared is not None
        assert declared.category == "look"
    else:
        assert declared is None, "an entry that says nothing hides those that do"


def test_looks_are_found_by_what_they_show() -> None:
    looks = {call for call in ROUTES.keys() - ACTS if declaration_of(ROUTES[call].endpoint)}
    assert looks == {
        "GET /v1/organizations/{organization}/people",
        "GET /v1/organizations/{organization}/webhook-endpoints",
        "GET /v1/organizations/{organization}/webhook-endpoints/{endpoint}",
        "GET /v1/partners/{partner}/signers",
        "GET /v1/organizations/{organization}/webhook-endpoints/{endpoint}/messages/{message}/attempts",
    }


async def test_an_act_whose_entry_cannot_be_written_is_not_done(house: House) -> None:
    """One transaction: without its entry there is no act."""
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$
    """
    await run(house.database, refuse)
    await run(house.database, "CREATE TRIGGER r BEFORE INSERT ON audit_entries EXECUTE FUNCTION refuse()")
    owner, body = house.keys["owner"], {"slug": "unheard-of", "name": "Unheard of"}
    answer = await house.client.post("/v1/organizations", json=body, headers=owner)
    assert answer.status_code == 500
    assert (await house.client.get("/v1/organizations/unheard-of", headers=owner)).status_code == 404
    people = await house.client.get("/v1/organizations/movement/people", headers=owner)
    assert people.status_code == 500
    await run(house.database, "DROP TRIGGER r ON audit_entries")
    await run(house.database, "DROP FUNCTION refuse()")
