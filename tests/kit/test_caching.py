"""What caches are told."""

from fastapi import Request, Response

from app.kit.web.caching import cached


def asking(*if_none_match: str) -> Request:
    headers = [(b"if-none-match", value.encode()) for value in if_none_match]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers})


def tag_of(response: Response) -> str:
    return response.headers["etag"]


def test_the_same_bytes_have_the_same_tag_and_others_another() -> None:
    one, same, other = (cached(asking(), body, max_age=1) for body in (b"[1]", b"[1]", b"[2]"))
    assert tag_of(one) == tag_of(same) != tag_of(other)
    assert tag_of(one).startswith('"')


def test_a_tag_is_found_among_several_and_in_several_headers() -> None:
    tag = tag_of(cached(asking(), b"[]", max_age=1))
    for asked in ([f'"a,b", W/{tag}'], ['"a"', tag], [" * "], [f'"",{tag}']):
        assert cached(asking(*asked), b"[]", max_age=1).status_code == 304
    for asked in ([tag.strip('"')], ['"*"'], [""], ['"'], ['"other"']):
        assert cached(asking(*asked), b"[]", max_age=1).status_code == 200


def test_further_reasons_to_vary_are_kept() -> None:
    answer = cached(asking(), b"[]", max_age=1, headers={"vary": "Accept-Language, Authorization"})
    assert answer.headers.getlist("vary") == ["Authorization, Accept-Language"]


def test_a_private_answer_is_stored_nowhere() -> None:
    answer = cached(asking(), b"[]", max_age=1, shared_max_age=2, private=True)
    assert answer.headers["cache-control"] == "private, no-store"
    answer = cached(asking(), b"[]", max_age=1)
    assert answer.headers["cache-control"] == "public, max-age=1"
