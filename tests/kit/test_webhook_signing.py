"""Standard Webhooks, both ways, with the public library as the other side."""

import base64
import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.kit.webhooks.signing import LONGEST_ID, MalformedHeadersError, SignatureHeaders, find_key, read_headers, sign

# Fixed: several processes that run the tests must give them the same names.
KEY, OTHER = bytes(range(32)), bytes(range(100, 124))
BODIES = st.text(max_size=200).map(str.encode)
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=LONGEST_ID)


def _library(key: bytes) -> Webhook:
    return Webhook(f"whsec_{base64.b64encode(key).decode()}")


def _headers(id_: str, timestamp: object, signature: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"content-type", b"application/json"),
        (b"webhook-id", id_.encode()),
        (b"webhook-timestamp", str(timestamp).encode()),
        (b"webhook-signature", signature.encode()),
    ]


@given(id_=IDS, body=BODIES)
@settings(max_examples=200)
def test_the_library_takes_what_we_sign(id_: str, body: bytes) -> None:
    timestamp = int(time.time())
    headers = {
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([KEY], id_, timestamp, body),
    }
    _library(KEY).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        _library(OTHER).verify(body, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        _library(KEY).verify(body + b" ", headers, json_parse=False)


def test_while_keys_are_rotated_each_side_is_taken() -> None:
    timestamp, body = int(time.time()), json.dumps({"type": "petition.published"})
    signature = sign([OTHER, KEY], "msg_1", timestamp, body.encode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(timestamp), "webhook-signature": signature}
    for key in (KEY, OTHER):
        assert _library(key).verify(body, headers) == {"type": "petition.published"}


@given(id_=IDS, body=BODIES)
@settings(max_examples=200)
def test_we_take_what_the_library_signs(id_: str, body: bytes) -> None:
    moment = datetime.fromtimestamp(int(time.time()), UTC)
    signature = _library(KEY).sign(id_, moment, body.decode())
    claim = read_headers(_headers(id_, int(moment.timestamp()), signature))
    assert (claim.id, claim.timestamp) == (id_, int(moment.timestamp()))
    assert find_key([OTHER, KEY], claim, body) == 1
    assert find_key([KEY, OTHER], claim, body) == 0
    assert find_key([OTHER], claim, body) is None
    assert find_key([], claim, body) is None
    assert find_key([KEY], claim, body + b"\n") is None
    renamed = read_headers(_headers(id_, int(moment.timestamp()) + 1, signature))
    assert find_key([KEY], renamed, body) is None


def test_one_right_signature_among_others_is_enough() -> None:
    body, wrong = b"{}", base64.b64encode(bytes(32)).decode()
    signature = f"v1a,{wrong} v1,{wrong} {sign([KEY], 'a.b', 1_700_000_000, body)} v2,{wrong}"
    assert find_key([KEY], read_headers(_headers("a.b", 1_700_000_000, signature)), body) == 0


def test_signatures_of_other_versions_are_not_ours() -> None:
    signature = sign([KEY], "a", 1, b"{}").replace("v1,", "v2,")
    assert find_key([KEY], read_headers(_headers("a", 1, signature)), b"{}") is None


GOOD = sign([KEY], "msg_1", 1_700_000_000, b"{}")


@pytest.mark.parametrize(
    ("id_", "timestamp", "signature"),
    [
        ("", "1700000000", GOOD),
        ("x" * (LONGEST_ID + 1), "1700000000", GOOD),
        ("msg\x00_1", "1700000000", GOOD),
        ("msg 1", "1700000000", GOOD),
        ("msg_\u00e9", "1700000000", GOOD),
        ("msg_1", "", GOOD),
        ("msg_1", "nan", GOOD),
        ("msg_1", "inf", GOOD),
        ("msg_1", "1e9", GOOD),
        ("msg_1", "-1700000000", GOOD),
        ("msg_1", "+1700000000", GOOD),
        ("msg_1", "1700000000.5", GOOD),
        ("msg_1", " 1700000000", GOOD),
        ("msg_1", "1_700_000_000", GOOD),
        ("msg_1", "\u0661\u0667\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660", GOOD),
        ("msg_1", "9" * 5000, GOOD),
        ("msg_1", "2026-11-20T09:30:00Z", GOOD),
        ("msg_1", "1700000000", ""),
        ("msg_1", "1700000000", "v1"),
        ("msg_1", "1700000000", "v1,"),
        ("msg_1", "1700000000", GOOD.partition(",")[2]),
        ("msg_1", "1700000000", f"{GOOD},{GOOD}"),
        ("msg_1", "1700000000", f"{GOOD} nonsense"),
        ("msg_1", "1700000000", f" {GOOD}"),
        ("msg_1", "1700000000", "v1,not-base64!"),
        ("msg_1", "1700000000", "v1,AAA"),
        ("msg_1", "1700000000", "v1,A=AA"),
        ("msg_1", "1700000000", "v1,\u00e9\u00e9\u00e9\u00e9"),
        ("msg_1", "1700000000", "v1,\x00"),
        ("msg_1", "1700000000", " ".join([GOOD] * 17)),
        ("msg_1", "1700000000", f"v1,{'A' * 100_000}"),
    ],
)
def test_headers_no_library_writes_are_malformed(id_: str, timestamp: str, signature: str) -> None:
    with pytest.raises(MalformedHeadersError):
        read_headers(_headers(id_, timestamp, signature))


@pytest.mark.parametrize("name", [b"webhook-id", b"webhook-timestamp", b"webhook-signature"])
def test_a_header_is_there_once(name: bytes) -> None:
    headers = _headers("msg_1", 1_700_000_000, GOOD)
    read_headers(headers)
    with pytest.raises(MalformedHeadersError):
        read_headers([one for one in headers if one[0] != name])
    with pytest.raises(MalformedHeadersError):
        read_headers([*headers, next(one for one in headers if one[0] == name)])


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
@settings(max_examples=300)
def test_whatever_the_headers_hold_is_a_claim_or_malformed(id_: bytes, timestamp: bytes, signature: bytes) -> None:
    headers = [(b"webhook-id", id_), (b"webhook-timestamp", timestamp), (b"webhook-signature", signature)]
    try:
        claim = read_headers(headers)
    except MalformedHeadersError:
        return
    assert find_key([KEY], claim, b"{}") is None


@pytest.mark.parametrize(("difference", "timely"), [(0, True), (-300, True), (300, True), (-301, False), (301, False)])
def test_five_minutes_both_ways_are_timely(difference: int, timely: bool) -> None:
    moment = 1_700_000_000
    assert SignatureHeaders("msg_1", moment + difference, [], b"").is_timely(moment) is timely
