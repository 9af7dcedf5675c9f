"""An endpoint's sealed config: versions read each other's, and one that cannot be read costs its own row only."""

import json
from uuid import UUID

import pytest

from app.kit.crypto.sealing import SealBrokenError
from app.partners.models import WebhookEndpoint
from app.partners.outbound.endpoints.sealed_config import config_of, open_config, seal_config
from app.partners.sealing import endpoints_identity
from tests.support.settings import RING

ID = UUID(int=7)
NEWER = {
    "url": "https://crm.example/hook",
    "secrets": [["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", None, "ed25519"]],
    "contact": "ops@crm.example",
    "contact_locale": "en",
    "headers": {"x-tenant": "7"},
}


def sealed(said: object) -> bytes:
    return RING.seal(json.dumps(said).encode(), endpoints_identity(ID))


def test_what_a_newer_version_sealed_is_read_and_kept_when_it_is_changed() -> None:
    config = open_config(RING, ID, sealed(NEWER))
    assert (config.url, config.secrets[0].text) == (NEWER["url"], "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    changed = seal_config(RING, ID, config._replace(contact=None), sealed(NEWER))
    assert open_config(RING, ID, changed) == config._replace(contact=None)
    assert json.loads(RING.open(changed, endpoints_identity(ID)))["headers"] == {"x-tenant": "7"}


@pytest.mark.parametrize("said", [[], {}, {"url": "https://crm.example/hook"}, {"url": "u", "secrets": [7]}])
def test_what_is_no_config_is_as_if_no_key_opened_it(said: object) -> None:
    with pytest.raises(SealBrokenError):
        open_config(RING, ID, sealed(said))
    assert config_of(RING, WebhookEndpoint(id=ID, sealed=sealed(said))).url == ""
