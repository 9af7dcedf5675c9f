"""Reading quickly, held against looking closely: what one would refuse the other does not let pass."""

import gzip
import json
from contextlib import suppress

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from app.kit.web.bodies import TooLarge
from app.kit.web.large_bodies import BrokenGzip, gunzip, is_utf8
from app.partners.inbound.items import NothingSent, has_each_key_once, read_items
from app.partners.inbound.strict_json import DuplicateKeys, NotJsonText, decode
from app.partners.schemas import PartnerSigning
from tests.support.partner_posts import item

pytestmark = pytest.mark.slow


KEYS = st.sampled_from(["email", "id", "petition", "given_name", "consents", ":", '":', r"\"", "a:b", "\\", "é", ""])
SPACES = st.text(" \t\r\n", max_size=2)


def _objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pairs = st.lists(st.tuples(KEYS, SPACES, SPACES, inner), max_size=4)
    return pairs.map(lambda found: "{" + ",".join(f"{a}{json.dumps(k)}{b}:{v}" for k, a, b, v in found) + "}")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text('":\\ {}[],é', max_size=6)).map(json.dumps),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(lambda parts: f"[{','.join(parts)}]"), _objects(inner)),
    max_leaves=8,
)


CONSENTS = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["organization", "given", "page", "text_version"]), SPACES), min_size=2, max_size=5
    ),
    max_size=2,
)


def _spelt(fields: list[tuple[str, str, str]]) -> str:
    return "{" + ",".join(f"{before}{json.dumps(name)}{before}:{value}" for name, value, before in fields) + "}"


@st.composite
def _signings(draw: st.DrawFn) -> str:
    """The text of a signature that is valid, but that keys may be there twice."""
    fields = [(name, json.dumps(value)) for name, value in item(1, comment=':"a": "":').items()]
    words = {"organization": '"elders"', "given": "true", "page": '"a.org/:"', "text_version": '"\\":"'}
    consents = [
        _spelt([(name, words[name], space) for name, space in pairs])
        for pairs in draw(CONSENTS)
        if {"organization", "given"} <= {name for name, _ in pairs}
    ]
    fields.append(("consents", f"[{','.join(consents)}]"))
    fields += draw(st.lists(st.sampled_from(fields), max_size=1))
    return _spelt([(name, value, draw(SPACES)) for name, value in draw(st.permutations(fields))])


@given(_signings())
@settings(max_examples=500)
def test_a_key_that_is_there_twice_is_never_overlooked(text: str) -> None:
    read = PartnerSigning.model_validate_json(text.encode())
    try:
        decode(text.encode())
    except DuplicateKeys:
        assert not has_each_key_once(text.encode(), read)
        with pytest.raises(DuplicateKeys):
            list(read_items(text.encode(), lines=False))
    else:
        # Mostly it is seen at once; where it is not, a closer look tells.
        assert len(list(read_items(text.encode(), lines=False))) == 1


@given(st.lists(VALUES, max_size=6), SPACES, SPACES)
@settings(max_examples=500)
def test_an_array_is_cut_where_json_cuts_it(values: list[str], before: str, after: str) -> None:
    text = f"{before}[{f'{after},{before}'.join(values)}{after}]{before}"
    assume("\\ud" not in text)
    with suppress(DuplicateKeys, NothingSent):
        assert len(list(read_items(text.encode(), lines=False))) == len(json.loads(text))


@given(st.text('[]{},:"\\ a1', max_size=12))
@settings(max_examples=1000)
def test_what_python_does_not_read_is_not_read(text: str) -> None:
    body = f"[0,{text}]"
    try:
        expected = len(json.loads(body))
    except ValueError:
        with pytest.raises(NotJsonText):
            list(read_items(body.encode(), lines=False))
    else:
        assert len(list(read_items(body.encode(), lines=False))) == expected


@given(st.binary(max_size=2000), st.integers(0, 4), st.integers(0, 3000))
@settings(max_examples=300)
def test_what_is_packed_is_what_is_unpacked(plain: bytes, parts: int, longest: int) -> None:
    packed = gzip.compress(plain) * (parts + 1)
    if len(plain) * (parts + 1) > longest:
        with pytest.raises(TooLarge):
            gunzip(packed, longest)
        return
    assert gunzip(packed, longest) == plain * (parts + 1)
    with pytest.raises(BrokenGzip):
        gunzip(packed[:-1], longest)


@given(st.one_of(st.binary(max_size=20), st.text(max_size=20).map(str.encode)), st.integers(0, 70_000))
@settings(max_examples=300)
def test_utf8_is_known_wherever_it_is_cut(end: bytes, filled: int) -> None:
    body = b"x" * filled + end + b"y"
    try:
        body.decode()
    except UnicodeDecodeError:
        assert not is_utf8(body)
    else:
        assert is_utf8(body)
