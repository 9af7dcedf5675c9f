"""What is written for a URL needs no escaping there, and comes back."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.kit.text import base64url


@given(st.binary(max_size=80))
def test_bytes_come_back_and_need_no_escaping(plain: bytes) -> None:
    text = base64url.encode(plain)
    assert re.fullmatch(r"[A-Za-z0-9_-]*", text)
    assert base64url.decode(text) == plain


@pytest.mark.parametrize("text", ["a", "a b", "ab!c", "äöü", "a=bc", "+/+/x"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        base64url.decode(text)
