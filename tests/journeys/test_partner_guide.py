"""A stranger integrates by docs/partners.md alone: its examples are cut out of the page and run as they stand.

The service is one that `multitude up` started, with its worker, its database and its demo petition; staff do what
docs/staff.md says of partners. Examples talk to it over HTTP from processes of their own.
"""

import hashlib
import hmac
import importlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel

from app.kit.problems import Problem
from app.partners import schemas
from app.partners.adapters.osdi import schemas as osdi_schemas
from app.partners.inbound.secrets import schemas as secret_schemas
from app.partners.outbound.endpoints import schemas as endpoint_schemas
from app.partners.outbound.feed import schemas as signer_schemas
from app.partners.outbound.message_types.types import MESSAGE_TYPES
from app.partners.partnerships import schemas as partnership_schemas
from tests.support.docs_examples import Reader, Running, blocks_of, json_examples, unnamed_programs
from tests.support.mailed_links import token_of
from tests.support.services import PATIENCE, ROOT, Service, free_port, open_folder
from tests.support.settings import SECRET_KEYS
from tests.support.types import Json

pytestmark = pytest.mark.process


GUIDE, STAFF = (ROOT / "docs" / page for page in ("partners.md", "staff.md"))
PETITION = "repeal-the-laws"
_ROW = re.compile(r"^\| `([a-z-]+)` \| (\d{3}) \|", re.MULTILINE)

PAYLOADS = {one.name: one.payload for one in MESSAGE_TYPES}

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="the JavaScript examples need node")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    missing = [name for name in ("bash", "curl", "openssl", "gzip") if shutil.which(name) is None]
    assert not missing, f"the examples of docs/partners.md need {missing}: install them"
    with open_folder() as folder:
        (folder / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n")
        yield folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    settings = {"MULTITUDE_SWEEP_SECONDS": "0.05", "MULTITUDE_SECRET_KEYS": SECRET_KEYS}
    with Service("up", "--data-dir", str(folder / "data"), settings=settings) as service:
        yield service.wait_until_ready()


@pytest.fixture(scope="module")
def owner_key(service: Service) -> str:
    found = re.search(r"owner key\s+(\S+)", service.output())
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def partner(service: Service, folder: Path, owner_key: str) -> Reader:
    """A reader who has accepted an invitation and has a secret, both as the pages say."""
    staff = Reader(STAFF, folder, {"B": service.url, "KEY": owner_key})
    staff.run("partner")
    key = staff.told("partner-key")["key"]
    staff.run("invite")
    reader = Reader(
        GUIDE,
        folder,
        {
            "MULTITUDE_URL": service.url,
            "PARTNER": "sisters-of-kampala",
            "PARTNER_KEY": key,
            "PETITION": PETITION,
        },
    )
    (invitation,) = reader.told("partnerships")["items"]
    assert invitation["state"] == "invited"
    reader.environment["PARTNERSHIP"] = invitation["id"]
    assert reader.told("accept")["state"] == "active"
    reader.environment["WEBHOOK_SECRET"] = reader.told("secret")["secret"]
    return reader


@pytest.fixture
def count(service: Service) -> Callable[[], int]:
    def ask() -> int:
        return int(httpx.get(f"{service.url}/v1/petitions/{PETITION}/count").json()["signature_count"])

    return ask


def _posts_one_signature(partner: Reader, count: Callable[[], int], name: str, reference: str) -> None:
    before = count()
    answers = [partner.told(name) for _ in range(2)]
    assert count() == before + 1, "run twice it counts once"
    results = [answer["results"] for answer in answers]
    assert [(one["id"], one["status"]) for (one,) in results] == [(reference, "counted"), (reference, "duplicate")]


def test_the_python_example_posts_a_signature(partner: Reader, count: Callable[[], int]) -> None:
    _posts_one_signature(partner, count, "post_signature.py", "crm:4711")


@needs_node
def test_the_javascript_example_posts_a_signature(partner: Reader, count: Callable[[], int]) -> None:
    _posts_one_signature(partner, count, "post_signature.mjs", "crm:4712")


def test_the_curl_example_posts_a_signature(partner: Reader, count: Callable[[], int]) -> None:
    _posts_one_signature(partner, count, "post_signature.sh", "crm:4713")


def test_many_at_once_are_counted_once(partner: Reader, count: Callable[[], int]) -> None:
    before = count()
    told = [partner.run("post_many.py", "12345") for _ in range(2)]
    assert told == ["10000 counted, 0 had signed, 0 refused\n2345 counted, 0 had signed, 0 refused\n"] * 2
    assert count() == before + 12345


def test_packed_lines_can_be_posted_with_curl(partner: Reader, count: Callable[[], int]) -> None:
    before = count()
    told = partner.told("post_lines.sh")
    assert (told["counted"], told["refused"]) == (2, 0)
    assert count() == before + 2


def test_a_secret_is_rotated_without_a_gap(partner: Reader, count: Callable[[], int]) -> None:
    before = count()
    former = partner.environment["WEBHOOK_SECRET"]
    (listed,) = [one["id"] for one in partner.told("secrets")["items"] if one["live"]]
    partner.environment["WEBHOOK_SECRET"] = partner.told("secret")["secret"]
    assert partner.told("post_signature.py")["duplicate"] + count() - before == 1
    assert partner.told("post_signature.py", WEBHOOK_SECRET=former)["duplicate"] == 1, "both are live meanwhile"
    partner.run("end-secret", OLD_SECRET_ID=listed)
    assert [one["id"] for one in partner.told("secrets")["items"] if one["live"]] != [listed]
    refused = subprocess.run(
        [sys.executable, "post_signature.py"],
        cwd=partner.folder,
        env=partner.environment | {"WEBHOOK_SECRET": former},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert refused.returncode != 0
    assert "401" in refused.stderr


def test_a_key_is_rotated(partner: Reader) -> None:
    (former,) = [one for one in partner.told("keys")["items"] if one["revoked_at"] is None]
    partner.environment["PARTNER_KEY"] = partner.told("rotate-key", KEY_ID=former["id"])["key"]
    (renewed,) = [one for one in partner.told("keys")["items"] if one["revoked_at"] is None]
    assert (renewed["id"], renewed["prefix"] != former["prefix"]) == (former["id"], True)


def _hears_everything(partner: Reader, url: str, owner_key: str, receiver: str, name: str) -> None:
    """A receiver that was copied from the page is told of somebody who signs, one who withdraws, one who is erased."""
    port = str(free_port())
    endpoint = partner.told("endpoint", ENDPOINT_URL=f"http://127.0.0.1:{port}/webhooks")
    here = {"ENDPOINT_ID": endpoint["id"]}
    with partner.running(receiver, PORT=port, ENDPOINT_SECRET=endpoint["secret"]) as lines:
        _wait_until_it_listens(int(port), lines)
        partner.run("test", **here)
        assert "webhook.test" in lines.find("webhook.test")

        grace, leila = (_sign(url, f"{name}.{who}@example.org") for who in ("grace", "leila"))
        kept = [lines.find("keep").split() for _ in range(2)]
        told = {email: (signature, person) for _, signature, person, email in kept}
        assert told.keys() == {f"{name}.grace@example.org", f"{name}.leila@example.org"}
        assert not {grace["id"], leila["id"]} & {signature for signature, _ in told.values()}, "each is told its own"

        withdrawn = httpx.post(f"{url}{grace['links']['withdraw']}", json={"receipt": grace["receipt"]})
        assert withdrawn.status_code == 200
        assert lines.find("forget the signature") == f"forget the signature {told[f'{name}.grace@example.org'][0]}"

        erasure = {"email": f"{name}.leila@example.org", "signatures": "keep"}
        headers = {"authorization": f"Bearer {owner_key}"}
        assert httpx.post(f"{url}/v1/erasures", json=erasure, headers=headers).status_code == 200
        assert lines.find("forget the person") == f"forget the person {told[f'{name}.leila@example.org'][1]}"

        _looks_at_what_was_sent(partner, endpoint["id"])
        # By a secret that the receiver does not know, and by the former one beside it.
        assert partner.told("renew", **here)["secret"] != endpoint["secret"]
        partner.run("test", **here)
        assert lines.find("webhook.test")
        assert not [line for line in lines.passed_over if line.startswith("forget")], "what is replayed is taken once"


def _looks_at_what_was_sent(partner: Reader, endpoint_id: str) -> None:
    def sent() -> dict[str, Json]:
        return {message["type"]: message for message in partner.told("messages", ENDPOINT_ID=endpoint_id)["items"]}

    before = sent()
    assert {"signature.counted", "signature.withdrawn", "person.erased", "webhook.test"} == before.keys()
    message = {"ENDPOINT_ID": endpoint_id, "MESSAGE_ID": before["signature.withdrawn"]["id"]}
    (attempt,) = partner.told("attempts", **message)["items"]
    assert (attempt["status_code"], attempt["error"]) == (204, None)
    assert partner.told("replay", **message)["state"] == "due"
    until = time.monotonic() + PATIENCE
    while len(partner.told("attempts", **message)["items"]) < 2:
        assert time.monotonic() < until


def _wait_until_it_listens(port: int, process: Running) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.goes_on
        try:
            # It answers a POST that nobody signed.
            assert httpx.post(f"http://127.0.0.1:{port}/webhooks", content=b"{}").status_code == 401
        except httpx.TransportError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("it does not listen")


def _sign(url: str, email: str) -> Json:
    """Somebody signs with a consent, and proves both by the mailed link; the answer, with the proven receipt."""
    body = {
        "given_name": "Grace",
        "family_name": "Nakato",
        "email": email,
        "country": "UG",
        "consents": [{"organization": "sisters-of-kampala", "given": True}],
    }
    answer = httpx.post(f"{url}/v1/petitions/{PETITION}/signatures", json=body)
    assert answer.status_code == 201
    signed: Json = answer.json()
    petition = httpx.get(f"{url}{signed['links']['petition']}").json()
    token = token_of(UUID(petition["id"]), email, signed)
    confirmed = httpx.post(f"{url}/v1/confirmations", json={"token": token, "consents": [0]})
    assert confirmed.status_code == 200
    return signed | {"receipt": confirmed.json()["receipt"]}


def test_the_python_receiver_is_told(partner: Reader, service: Service, owner_key: str) -> None:
    _hears_everything(partner, service.url, owner_key, "receive.py", "python")


@needs_node
def test_the_javascript_receiver_is_told(partner: Reader, service: Service, owner_key: str) -> None:
    _hears_everything(partner, service.url, owner_key, "receive.mjs", "javascript")


def test_signers_are_pulled_to_the_end_and_on_from_there(partner: Reader, service: Service) -> None:
    _sign(service.url, "pulled.first@example.org")
    first = _pulled(partner, "pulled.first@example.org")
    _sign(service.url, "pulled.second@example.org")
    assert "pulled.first@example.org" not in _pulled(partner, "pulled.second@example.org")
    assert "pulled.first@example.org" in first
    assert "pulled.second@example.org" in {one["email"] for one in partner.told("people")["items"]}


def _pulled(partner: Reader, email: str) -> str:
    """What the example prints until somebody is there: consents are entered a moment after they are given."""
    told, until = "", time.monotonic() + PATIENCE
    while email not in told:
        assert time.monotonic() < until, told
        told += partner.run("pull.py")
    return told


def test_action_networks_webhook_is_brought_once(partner: Reader, count: Callable[[], int]) -> None:
    before = count()
    token = partner.told("action-network-token")["secret"]
    answers = [partner.told("action-network", TOKEN=token) for _ in range(2)]
    assert answers[0] == answers[1]
    assert answers[0]["counted"] == 1
    assert count() == before + 1


def test_controlshifts_webhook_is_signed_by_the_secret_that_was_brought(partner: Reader, service: Service) -> None:
    secret = "a-secret-as-controlshift-shows-it"
    assert partner.told("controlshift", CONTROLSHIFT_SECRET=secret)["secret"] == secret
    body = json.dumps({"type": "petition.created", "data": {}}).encode()
    signature = "sha256:" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    at = f"{service.url}/v1/partners/sisters-of-kampala/petitions/{PETITION}/controlshift"
    headers = {"x-controlshift-webhook-signature": signature, "content-type": "application/json"}
    answer = httpx.post(at, content=body, headers=headers)
    assert (answer.status_code, answer.json()["results"]) == (200, [])


def test_a_partner_writes_down_what_it_asks(partner: Reader, service: Service, owner_key: str) -> None:
    slug, headers = "brothers-of-kampala", {"authorization": f"Bearer {owner_key}"}
    made = httpx.post(f"{service.url}/v1/organizations", json={"slug": slug, "name": "Brothers"}, headers=headers)
    assert made.status_code == 201
    key = httpx.post(f"{service.url}/v1/organizations/{slug}/api-keys", json={"role": "partner"}, headers=headers)
    assert partner.told("consent-text", PARTNER=slug, PARTNER_KEY=key.json()["key"])["version"] == "en-1"


def test_osdi_records_a_signature(partner: Reader, count: Callable[[], int]) -> None:
    before = count()
    assert "total_signatures" in partner.run("osdi-reading")
    told = partner.told("osdi")
    assert "our_system:4714" in told["identifiers"]
    assert count() == before + 1


def test_no_example_is_left_out_here() -> None:
    told = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in blocks_of(GUIDE) if f'"{name}"' not in told] == []
    assert [code for code in unnamed_programs(GUIDE) if not code.startswith(("export ", "ENDPOINT_SECRET="))] == []


def test_every_message_has_an_example_and_every_example_is_one() -> None:
    told = [example for example in json_examples(GUIDE) if example.get("type") in PAYLOADS]
    assert {example["type"] for example in told} == set(PAYLOADS)
    for example in told:
        model = PAYLOADS[example["type"]]
        assert _without_times(model.model_validate(example).model_dump(mode="json")) == _without_times(example)


_OTHERS: list[type[BaseModel]] = [
    partnership_schemas.PartnershipView,
    secret_schemas.NewWebhookSecretView,
    endpoint_schemas.NewWebhookEndpointView,
    endpoint_schemas.WebhookMessageView,
    endpoint_schemas.DeliveryAttemptView,
    osdi_schemas.OsdiSignature,
    schemas.ReceivedView,
    schemas.PartnerSigning,
    signer_schemas.SignersPage,
]


def test_every_other_example_has_the_form_of_an_answer() -> None:
    examples = [example for example in json_examples(GUIDE) if example.get("type") not in PAYLOADS]
    assert {_form_of(example) for example in examples} == set(_OTHERS)


def _form_of(example: Json) -> type[BaseModel]:
    """Which of our forms this is, name for name."""
    if example.keys() == {"items", "next_cursor"}:
        (example,) = example["items"]
    (found,) = [model for model in _OTHERS if _is_of(model, example)]
    return found


def _is_of(model: type[BaseModel], example: Json) -> bool:
    try:
        read = model.model_validate(example)
    except ValueError:
        return False
    told = read.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return bool(_without_times(told) == _without_times(example))


def _without_times(value: Any) -> Any:
    """The same, its moments written in one way."""
    if isinstance(value, dict):
        return {name: _without_times(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_times(inner) for inner in value]
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        return datetime.fromisoformat(value)
    return value


def _problems(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _problems(narrower)


def test_every_refusal_is_told_with_its_status() -> None:
    importlib.import_module("app.main")
    known = {problem.slug: problem for problem in _problems() if problem.__module__.startswith("app.")}
    told = dict(_ROW.findall(GUIDE.read_text(encoding="utf-8")))
    statuses = {slug: problem.status for slug, problem in known.items()}
    assert {slug: int(status) for slug, status in told.items()}.items() <= statuses.items()
    posting = {
        "app.partners.inbound.ingest",
        "app.partners.inbound.items",
        "app.partners.inbound.idempotency",
        "app.partners.inbound.verification",
    }
    assert {slug for slug, problem in known.items() if problem.__module__ in posting} <= told.keys()
