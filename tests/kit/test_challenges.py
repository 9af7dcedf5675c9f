"""A challenge is solved once, by whoever it was made for, in time; anything else is refused alike."""

import base64
import json
from typing import Any

import pytest
from altcha import Challenge, Payload, create_challenge, solve_challenge
from hypothesis import given
from hypothesis import strategies as st

from app.kit.abuse.challenges import EFFORT, ChallengeFailed, Challenges
from app.kit.abuse.rate_limits import Limiter, MemoryStorage
from app.kit.abuse.valkey import ValkeyStorage
from app.kit.crypto.sealing import KeyRing
from app.kit.problems import Unavailable
from tests.support.settings import SECRET_KEYS

RING = KeyRing.parse(SECRET_KEYS)
HERE, ELSEWHERE = "petition 1", "petition 2"


@pytest.fixture
def challenges() -> Challenges:
    return Challenges(RING, Limiter(MemoryStorage()), effort=4)


def solved(made: dict[str, Any]) -> str:
    """What the widget sends: it knows of a challenge what it was given as JSON."""
    challenge = Challenge.from_dict(json.loads(json.dumps(made)))
    solution = solve_challenge(challenge)
    assert solution is not None
    return Payload(challenge, solution).to_base64()


def opened(payload: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.b64decode(payload))
    return found


def closed(payload: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()


async def test_a_solved_challenge_is_taken_once(challenges: Challenges) -> None:
    payload = solved(challenges.make(HERE))
    await challenges.verify(HERE, payload)
    for again in (payload, closed(opened(payload) | {"again": True})):
        with pytest.raises(ChallengeFailed):
            await challenges.verify(HERE, again)
    await challenges.verify(HERE, solved(challenges.make(HERE)))


async def test_the_work_is_bounded_and_takes_some(challenges: Challenges) -> None:
    made = Challenges(RING, Limiter(MemoryStorage())).make(HERE)
    payload = solved(made)
    assert 0 <= opened(payload)["solution"]["counter"] < EFFORT
    await challenges.verify(HERE, payload)
    assert made["parameters"]["algorithm"] == "PBKDF2/SHA-256"
    assert made["parameters"]["cost"] >= 1000
    assert len(made["parameters"]["keyPrefix"]) >= 16


async def test_the_counter_is_not_given_away(challenges: Challenges) -> None:
    made = [challenges.make(HERE) for _ in range(20)]
    assert {"counter", "derivedKey"} & {key for one in made for key in [*one, *one["parameters"]]} == set()
    assert len({opened(solved(one))["solution"]["counter"] for one in made}) > 1


async def test_a_solution_for_one_petition_is_no_good_for_another(challenges: Challenges) -> None:
    payload = solved(challenges.make(ELSEWHERE))
    with pytest.raises(ChallengeFailed):
        await challenges.verify(HERE, payload)
    # Trying it where it does not belong has not used it up.
    await challenges.verify(ELSEWHERE, payload)


async def test_it_survives_a_rotation_and_not_another_ring() -> None:
    payload = solved(Challenges(RING, Limiter(MemoryStorage()), effort=4).make(HERE))
    rotated = KeyRing.parse(f"another-secret-of-the-movement-0001,{SECRET_KEYS}")
    await Challenges(rotated, Limiter(MemoryStorage())).verify(HERE, payload)
    with pytest.raises(ChallengeFailed):
        await Challenges(KeyRing.parse("another-secret-of-the-movement-0001"), Limiter(MemoryStorage())).verify(
            HERE, payload
        )


async def test_it_is_no_good_when_its_time_is_over() -> None:
    late = Challenges(RING, Limiter(MemoryStorage()), effort=4, lifetime=-1)
    payload = solved(late.make(HERE))
    with pytest.raises(ChallengeFailed):
        await late.verify(HERE, payload)


def _with(part: str, name: str, value: object) -> Any:
    def change(payload: dict[str, Any]) -> None:
        inner = payload["challenge"]["parameters"] if part == "parameters" else payload[part]
        inner[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _with("parameters", "cost", 1),
        _with("parameters", "expiresAt", 4_000_000_000),
        _with("parameters", "expiresAt", None),
        _with("parameters", "data", {"purpose": ELSEWHERE}),
        _with("parameters", "nonce", "00" * 16),
        _with("parameters", "keySignature", None),
        _with("parameters", "keySignature", "00" * 32),
        _with("parameters", "keyPrefix", ""),
        _with("parameters", "algorithm", "SHA-256"),
        _with("challenge", "signature", None),
        _with("challenge", "signature", "00" * 32),
        _with("challenge", "signature", 7),
        _with("solution", "derivedKey", "00" * 32),
        _with("solution", "derivedKey", None),
    ],
)
async def test_a_forged_solution_is_refused(challenges: Challenges, change: Any) -> None:
    payload = opened(solved(challenges.make(HERE)))
    change(payload)
    with pytest.raises(ChallengeFailed):
        await challenges.verify(HERE, closed(payload))


async def test_a_challenge_of_somebody_else_s_is_refused(challenges: Challenges) -> None:
    made = create_challenge("SHA-256", 1, data={"purpose": HERE}, hmac_secret="mine", key_prefix="0")
    with pytest.raises(ChallengeFailed):
        await challenges.verify(HERE, solved(made.to_dict()))


@pytest.mark.parametrize(
    "payload",
    [
        None,
        "",
        "x",
        "é",
        "e30=",
        "bnVsbA==",
        "W10=",
        base64.b64encode(b'{"challenge": [], "solution": {}}').decode(),
        base64.b64encode(b'{"challenge": {"parameters": []}, "solution": {}}').decode(),
        base64.b64encode(b"[" * 3000).decode(),
        "A" * 100_000,
    ],
)
async def test_what_is_no_solution_at_all_is_refused(challenges: Challenges, payload: str | None) -> None:
    with pytest.raises(ChallengeFailed) as refused:
        await challenges.verify(HERE, payload)
    assert (refused.value.status, refused.value.slug) == (422, "challenge-failed")
    assert payload is None or len(payload) < 8 or payload not in str(refused.value.body("0"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
PARAMETERS = st.fixed_dictionaries(
    dict.fromkeys(("algorithm", "nonce", "salt", "cost"), JSON),
    optional=dict.fromkeys(("keySignature", "keyPrefix", "expiresAt", "data"), JSON),
)
PAYLOADS = st.fixed_dictionaries(
    {
        "challenge": st.fixed_dictionaries({"parameters": PARAMETERS, "signature": JSON}),
        "solution": st.fixed_dictionaries({"counter": JSON, "derivedKey": JSON}),
    }
)


@given(payload=st.one_of(JSON, PAYLOADS))
def test_whatever_is_sent_is_refused_in_one_way(payload: Any) -> None:
    verifying = Challenges(RING, Limiter(MemoryStorage())).verify(HERE, closed(payload))
    # It is refused without anything having been waited for.
    with pytest.raises(ChallengeFailed):
        verifying.send(None)


async def test_when_nobody_can_tell_whether_it_was_used_it_is_not_taken() -> None:
    limiter = Limiter(ValkeyStorage("redis://127.0.0.1:1"))
    challenges = Challenges(RING, limiter, effort=4)
    payload = solved(challenges.make(HERE))
    # The second is not told that it was used: nobody has taken the first.
    for _ in range(2):
        with pytest.raises(Unavailable):
            await challenges.verify(HERE, payload)
    with pytest.raises(ChallengeFailed):
        await challenges.verify(ELSEWHERE, payload)
    await limiter.close()
