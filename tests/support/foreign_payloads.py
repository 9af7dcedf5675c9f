"""The field's payloads, as its systems send them, and ways to send them here."""

import hashlib
import hmac
from typing import Any

from app.kit.database.session import Database
from app.organizations.models import Organization
from app.partners.inbound.secrets.service import add
from app.settings import Settings
from app.signatures.signing.sealing import Personal, unseal
from tests.support.application import sweep
from tests.support.databases import run
from tests.support.partners import PETITION, SLUG, Partner
from tests.support.types import Headers, Json

HELPER = f"/v1/osdi/petitions/{PETITION}/record_signature_helper"
ACTION_NETWORK = f"/v1/partners/{SLUG}/petitions/{PETITION}/action-network"
CONTROLSHIFT = f"/v1/partners/{SLUG}/petitions/{PETITION}/controlshift"


def osdi_person(number: int = 1, **more: Any) -> Json:
    """A person as OSDI writes them, with all its odd corners."""
    return {
        "identifiers": [f"crm:{number}"],
        "family_name": "Nakato",
        "given_name": "Joy",
        "additional_name": "Achieng",
        "origin_system": "A CRM",
        "email_addresses": [{"address": f"joy.{number}@example.org", "primary": True, "address_type": "Personal"}],
        "postal_addresses": [
            {
                "primary": True,
                "address_lines": ["Plot 7, Lumumba Avenue"],
                "locality": "Kampala",
                "region": "Central",
                "postal_code": "10101",
                "country": "UG",
                "address_type": "Home",
                "status": "Verified",
            }
        ],
        "phone_numbers": [{"primary": True, "number": 256772123456, "number_type": "Mobile", "sms_capable": True}],
        "gender": "Female",
        **more,
    }


def helper_body(number: int = 1, **more: Any) -> Json:
    """The helper's body with every optional part it may have."""
    return {
        "person": osdi_person(number),
        "identifiers": [f"crm:{number}"],
        "origin_system": "A CRM",
        "comments": "For my sisters.",
        "referrer_data": {
            "source": "spring-mailing",
            "referrer": "a-friend",
            "website": "example.org",
            "url": "https://example.org/sign",
        },
        "triggers": {
            "autoresponse": {"identifiers": ["crm:reply"], "enabled": True},
            "sms_response": {"identifiers": ["crm:sms"], "enabled": True},
            "call_response": {"identifiers": ["crm:call"], "enabled": True},
        },
        "add_tags": ["volunteer"],
        "add_tags_uri": ["https://crm.example.org/tags/1"],
        "add_lists": ["supporters"],
        "add_lists_uri": ["https://crm.example.org/lists/1"],
        "add_questions_responses_uri": [
            {"question": "https://crm.example.org/questions/1", "responses": ["yes"]},
            {"question": "https://crm.example.org/questions/2", "value": "Because."},
        ],
        "osdi:control": {"return_response": True},
        **more,
    }


def action_network_item(number: int = 1, **person: Any) -> Json:
    """One item of Action Network's array. `person` overrides parts of the person."""
    signature = {
        "identifiers": [f"action_network:7c9e6679-7425-40de-944b-{number:012d}"],
        "created_date": "2026-11-12T17:07:31Z",
        "modified_date": "2026-11-12T17:07:31Z",
        "comments": "For my sisters.",
        "action_network:referrer_data": {"source": "facebook"},
        "person": {
            "created_date": "2026-10-01T08:00:00Z",
            "modified_date": "2026-11-12T17:07:31Z",
            "family_name": "Garcia",
            "given_name": "Maria",
            "postal_addresses": [
                {
                    "primary": True,
                    "region": "California",
                    "postal_code": "94110",
                    "country": "US",
                    "location": {"latitude": 37.75, "longitude": -122.41, "accuracy": "Approximate"},
                }
            ],
            "email_addresses": [{"address": f"maria.{number}@example.org", "primary": True, "status": "subscribed"}],
            "phone_numbers": [
                {"primary": True, "number": "14155550100", "number_type": "Mobile", "status": "subscribed"}
            ],
            "custom_fields": {"employer": "A bakery"},
            "languages_spoken": ["es"],
            **person,
        },
        "add_tags": ["volunteer"],
        "_links": {
            "self": {"href": f"https://actionnetwork.example/signatures/{number}"},
            "osdi:petition": {"href": "https://actionnetwork.example/petitions/1"},
            "osdi:person": {"href": f"https://actionnetwork.example/people/{number}"},
        },
    }
    return {
        "osdi:signature": signature,
        "action_network:sponsor": {"title": "Sisters of Kampala", "url": "https://actionnetwork.example/sisters"},
        "idempotency_key": hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest(),
    }


def controlshift_event(number: int = 1, **data: Any) -> Json:
    """ControlShift's `signature.created`. `data` overrides parts of its data."""
    return {
        "type": "signature.created",
        "data": {
            "id": number,
            "first_name": "Aoife",
            "last_name": "Byrne",
            "email": f"aoife.{number}@example.org",
            "phone_number": "+353 1 555 0100",
            "postcode": "D02 X285",
            "join_organisation": True,
            "created_at": "2026-11-12T17:07:31Z",
            "member": {"id": number + 1000, "created_at": "2026-10-01T08:00:00Z"},
            "petition": {"url": "https://controlshift.example/petitions/repeal", "slug": "repeal"},
            **data,
        },
    }


def controlshift_headers(body: bytes, secret: str) -> Headers:
    """The headers ControlShift signs with."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "x-controlshift-webhook-signature": f"sha256:{digest}"}


def osdi_token(partner: Partner) -> Headers:
    """The partner's key, where OSDI puts it."""
    return {"OSDI-API-Token": partner.key["Authorization"].removeprefix("Bearer ")}


async def new_secret(database: Database, settings: Settings, partner: Partner, scheme: str) -> str:
    """One more live secret of this scheme."""
    async with database.transaction() as session:
        organization = await session.get_one(Organization, partner.organization_id)
        _, secret = await add(session, settings.key_ring, organization, scheme)
    return secret


async def signature_rows(database: Database) -> list[Any]:
    """State, country, region and source of every signature."""
    statement = "SELECT state, country, region, source FROM signatures ORDER BY petition_id, signer"
    return [tuple(row) for row in await run(database, statement)]


async def unsealed_signatures(database: Database, settings: Settings) -> list[Personal]:
    """What is sealed with every signature, by address."""
    rows = await run(database, "SELECT petition_id, signer, sealed FROM signatures")
    found = [unseal(settings.key_ring, petition_id, signer, sealed) for petition_id, signer, sealed in rows]
    return sorted(found, key=lambda personal: personal.email)


async def consent_ledger(database: Database) -> list[tuple[str, bool]]:
    """Every word on consent in the ledger: to whom, and whether it is a yes."""
    await sweep(database)
    statement = "SELECT slug, given FROM consents JOIN organizations o ON o.id = organization_id ORDER BY consents.id"
    return [tuple(row) for row in await run(database, statement)]


async def change_terms(database: Database, **terms: Any) -> None:
    """Put the terms of the one partnership straight into the database."""
    changes = ", ".join(f"{name} = CAST(:{name} AS {_TYPES[name]})" for name in terms)
    await run(database, f"UPDATE partnerships SET {changes}", **terms)


_TYPES = {"default_country": "text", "consents": "jsonb", "petition_ids": "uuid[]", "state": "text"}
