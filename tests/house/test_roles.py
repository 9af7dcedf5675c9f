"""Who may call what: one table for the whole service. A route that is not in it does not pass."""

import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from app.organizations.auth import roles_of
from tests.support.api_surface import DESCRIBED, OPERATIONS, House, by_no_key, filled
from tests.support.docs_programs import list_roles

ALL = frozenset({"anonymous", "owner", "campaigner", "analyst", "data_officer", "partner", "person"})
STAFF = ALL - {"anonymous", "partner", "person"}
CAMPAIGNERS = frozenset({"owner", "campaigner"})
OWNERS = frozenset({"owner"})
DATA_OFFICERS = frozenset({"owner", "data_officer"})
PEOPLE = frozenset({"person"})
PARTNERS = frozenset({"partner"})
# Whoever has signed it, or holds a token of another kind: no key opens it.
SIGNED = frozenset({"signature"})

MAY = {
    "GET /healthz": ALL,
    "GET /readyz": ALL,
    "GET /v1/mail-failures": DATA_OFFICERS,
    "GET /v1/organizations": STAFF,
    "POST /v1/organizations": OWNERS,
    "GET /v1/organizations/{organization}": STAFF,
    "PATCH /v1/organizations/{organization}": OWNERS,
    "GET /v1/organizations/{organization}/api-keys": OWNERS | PARTNERS,
    "POST /v1/organizations/{organization}/api-keys": OWNERS | PARTNERS,
    "DELETE /v1/organizations/{organization}/api-keys/{api_key}": OWNERS | PARTNERS,
    "POST /v1/organizations/{organization}/api-keys/{api_key}/rotate": STAFF | PARTNERS,
    "GET /v1/audit-log": OWNERS,
    "GET /v1/pending-acts": STAFF | PARTNERS,
    "GET /v1/pending-acts/{pending_act}": STAFF | PARTNERS,
    "POST /v1/pending-acts/{pending_act}/confirm": STAFF | PARTNERS,
    "POST /v1/pending-acts/{pending_act}/cancel": STAFF | PARTNERS,
    "GET /v1/organizations/{organization}/consent-texts": ALL,
    "GET /v1/organizations/{organization}/consent-texts?all=true": STAFF | {"partner"},
    "GET /v1/organizations/{organization}/consent-texts/{version}": ALL,
    "POST /v1/organizations/{organization}/consent-texts": CAMPAIGNERS | {"partner"},
    "GET /v1/organizations/{organization}/people": DATA_OFFICERS | {"partner"},
    "POST /v1/erasures": DATA_OFFICERS,
    "POST /v1/sign-ins": ALL,
    "POST /v1/sessions": ALL,
    "GET /v1/me": PEOPLE,
    "PATCH /v1/me": PEOPLE,
    "GET /v1/me/consents": PEOPLE,
    "POST /v1/me/consents": PEOPLE,
    "GET /v1/me/sessions": PEOPLE,
    "DELETE /v1/me/sessions/{session}": PEOPLE,
    "GET /v1/me/export": PEOPLE,
    "POST /v1/me/erasure": PEOPLE,
    "GET /v1/me/signatures": PEOPLE,
    "POST /v1/me/signatures/{petition}/withdraw": PEOPLE,
    "GET /v1/organizations/{organization}/webhook-endpoints": OWNERS | PARTNERS,
    "POST /v1/organizations/{organization}/webhook-endpoints": OWNERS | PARTNERS,
    "GET /v1/organizations/{organization}/webhook-endpoints/{endpoint}": OWNERS | PARTNERS,
    "PATCH /v1/organizations/{organization}/webhook-endpoints/{endpoint}": OWNERS | PARTNERS,
    "DELETE /v1/organizations/{organization}/webhook-endpoints/{endpoint}": OWNERS | PARTNERS,
    "POST /v1/organizations/{organization}/webhook-endpoints/{endpoint}/secrets": OWNERS | PARTNERS,
    "POST /v1/organizations/{organization}/webhook-endpoints/{endpoint}/test": OWNERS | PARTNERS,
    "GET /v1/organizations/{organization}/webhook-endpoints/{endpoint}/messages": OWNERS | PARTNERS,
    "GET /v1/organizations/{organization}/webhook-endpoints/{endpoint}/messages/{message}/attempts": OWNERS | PARTNERS,
    "POST /v1/organizations/{organization}/webhook-endpoints/{endpoint}/messages/{message}/replay": OWNERS | PARTNERS,
    "GET /v1/campaigns": ALL,
    "POST /v1/campaigns": CAMPAIGNERS,
    "GET /v1/campaigns/{campaign}": ALL,
    "PATCH /v1/campaigns/{campaign}": CAMPAIGNERS,
    "PUT /v1/campaigns/{campaign}/targets": CAMPAIGNERS,
    "GET /v1/campaigns/{campaign}/updates": ALL,
    "POST /v1/campaigns/{campaign}/updates": CAMPAIGNERS,
    "DELETE /v1/campaigns/{campaign}/updates/{update}": CAMPAIGNERS,
    "GET /v1/campaigns/{campaign}/petitions": ALL,
    "POST /v1/campaigns/{campaign}/petitions": CAMPAIGNERS,
    "GET /v1/petitions": ALL,
    "GET /v1/petitions/{petition}": ALL,
    "PATCH /v1/petitions/{petition}": CAMPAIGNERS,
    "PUT /v1/petitions/{petition}/texts/{locale}": CAMPAIGNERS,
    "DELETE /v1/petitions/{petition}/texts/{locale}": CAMPAIGNERS,
    "PUT /v1/petitions/{petition}/milestones": CAMPAIGNERS,
    "PUT /v1/petitions/{petition}/moderation": CAMPAIGNERS,
    "POST /v1/petitions/{petition}/publish": CAMPAIGNERS,
    "POST /v1/petitions/{petition}/close": CAMPAIGNERS,
    "POST /v1/petitions/{petition}/reopen": CAMPAIGNERS,
    "POST /v1/petitions/{petition}/archive": CAMPAIGNERS,
    "POST /v1/petitions/{petition}/signatures": ALL,
    "POST /v1/petitions/{petition}/withdrawals": ALL,
    "POST /v1/confirmations": ALL,
    "POST /v1/confirmations/preview": ALL,
    "GET /v1/petitions/{petition}/challenge": ALL,
    "POST /v1/petitions/{petition}/invalidations": CAMPAIGNERS,
    "GET /v1/petitions/{petition}/invalidations": CAMPAIGNERS,
    "GET /v1/petitions/{petition}/invalidations/{invalidation}": CAMPAIGNERS,
    "POST /v1/petitions/{petition}/invalidations/{invalidation}/apply": CAMPAIGNERS,
    "POST /v1/petitions/{petition}/invalidations/{invalidation}/undo": CAMPAIGNERS,
    "GET /v1/petitions/{petition}/held": STAFF,
    "POST /v1/petitions/{petition}/held/release": CAMPAIGNERS,
    "GET /v1/petitions/{petition}/trends": STAFF,
    "GET /v1/petitions/{petition}/retention": CAMPAIGNERS | DATA_OFFICERS,
    "GET /v1/petitions/{petition}/count": ALL,
    "GET /v1/petitions/{petition}/stream": ALL,
    "GET /v1/petitions/{petition}/tally?by=country": ALL,
    "GET /v1/petitions/{petition}/tally?by=hour": ALL,
    "GET /v1/petitions/{petition}/tally?by=region": STAFF,
    "GET /v1/petitions/{petition}/tally?by=source": STAFF,
    "GET /v1/petitions/{petition}/tally?by=group": STAFF,
    "GET /v1/petitions/{petition}/tally?by=event": STAFF,
    "GET /v1/petitions/{petition}/tally?by=country_day": STAFF,
    "POST /v1/campaigns/{campaign}/partnerships": CAMPAIGNERS,
    "GET /v1/campaigns/{campaign}/partnerships": STAFF,
    "GET /v1/partners/{partner}/partnerships": STAFF | PARTNERS,
    "GET /v1/partnerships/{partnership}": STAFF | PARTNERS,
    "POST /v1/partnerships/{partnership}/accept": PARTNERS,
    "POST /v1/partnerships/{partnership}/decline": PARTNERS,
    "POST /v1/partnerships/{partnership}/end": CAMPAIGNERS | PARTNERS,
    "POST /v1/partners/{partner}/webhook-secrets": OWNERS | PARTNERS,
    "GET /v1/partners/{partner}/webhook-secrets": OWNERS | PARTNERS,
    "DELETE /v1/partners/{partner}/webhook-secrets/{secret}": OWNERS | PARTNERS,
    "GET /v1/partners/{partner}/signers": OWNERS | PARTNERS,
    "POST /v1/partners/{partner}/signatures": SIGNED,
    "POST /v1/partners/{partner}/petitions/{petition}/action-network/{token}": SIGNED,
    "POST /v1/partners/{partner}/petitions/{petition}/controlshift": SIGNED,
    "POST /v1/osdi/petitions/{petition}/record_signature_helper": SIGNED,
    "GET /v1/osdi": ALL,
    "GET /v1/osdi/petitions": ALL,
    "GET /v1/osdi/petitions/{petition}": ALL,
}


def test_every_route_is_in_the_table() -> None:
    assert {call.partition("?")[0] for call in MAY} == {f"{method} {path}" for method, path, _ in OPERATIONS}


@pytest.mark.parametrize("role", sorted(ALL))
@pytest.mark.parametrize("call", MAY)
async def test_only_who_may_call_it_gets_through(house: House, call: str, role: str) -> None:
    method, url = filled(call, "en").split()
    for body in (None, {}, {"x": 1}):
        answer = await house.client.request(method, url, headers=house.keys[role], json=body)
        if role in MAY[call]:
            assert answer.status_code not in {401, 403}
        else:
            assert answer.status_code == (401 if role == "anonymous" or MAY[call] == SIGNED else 403)


def test_the_description_says_the_same() -> None:
    for method, path, operation in OPERATIONS:
        allowed = [roles for call, roles in MAY.items() if call.partition("?")[0] == f"{method} {path}"]
        told = operation.get("security", [{}])
        assert ({} in told) == any("anonymous" in roles for roles in allowed)
        assert by_no_key(operation) == (allowed == [SIGNED])
        assert all(roles == ALL for roles in allowed) or by_no_key(operation) or {"key": []} in told


def test_the_roles_read_off_the_routes_are_those_of_the_table() -> None:
    for context in iter_route_contexts(DESCRIBED.routes):
        if isinstance(context.original_route, APIRoute) and context.original_route.include_in_schema:
            for method in context.methods or ():
                call = f"{method} {context.path}"
                allowed = frozenset().union(*(roles for one, roles in MAY.items() if one.partition("?")[0] == call))
                assert roles_of(context.original_route.dependant) == (None if allowed in {ALL, SIGNED} else allowed)


def test_the_page_of_roles_is_current() -> None:
    assert list_roles.PAGE.read_text() == list_roles.table(DESCRIBED)
