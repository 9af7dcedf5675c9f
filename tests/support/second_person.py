"""A second person's word on what waits, for tests that are about what comes afterwards."""

import httpx

from tests.support.types import Headers


async def confirm(client: httpx.AsyncClient, waits: httpx.Response, second: Headers) -> None:
    """Confirm what a request has asked for; it is done then."""
    assert waits.status_code == 202, waits.text
    answer = await client.post(f"{waits.headers['location']}/confirm", headers=second)
    assert (answer.status_code, answer.json()["state"]) == (200, "done"), answer.text


async def send(
    client: httpx.AsyncClient, second: Headers, method: str, url: str, headers: Headers, json: object = None
) -> httpx.Response:
    """A request, and if it waits, the same once more after a second person has confirmed it: what is done is told."""
    answer = await client.request(method, url, headers=headers, json=json)
    if answer.status_code != 202:
        return answer
    await confirm(client, answer, second)
    return await client.request(method, url, headers=headers, json=json)
