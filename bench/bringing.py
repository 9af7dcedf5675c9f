"""`python -m bench.bringing URL CONNECTIONS POSTS`: a partner posts signed NDJSON of 10,000 signatures each.

A process of its own, so that what is measured shares no loop with it. The partner and its secret come by the
environment. It ends after so many posts, or with 0 of them on SIGTERM, and prints how it went as JSON.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import uvloop

from bench.people import body
from bench.wire import Answer, Pool
from tests.support.services import environment

ITEMS = 10_000
_COUNTED = re.compile(rb'"counted": ?(\d+)')
_BEGUN = "the first has been answered"


@dataclass(frozen=True, slots=True)
class Partner:
    """Who posts, and for which petition."""

    slug: str
    secret: str
    petition: str

    def post(self, url_path: str, group: bytes) -> bytes:
        """A whole request: 10,000 distinct people."""
        more = b',"petition":"%b"}' % self.petition.encode()
        lines = b"\n".join(body(group, number, b"UG")[:-1] + more for number in range(ITEMS))
        id_, moment = f"bench-{group.decode()}", int(time.time())
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signature = base64.b64encode(hmac.digest(key, f"{id_}.{moment}.".encode() + lines, hashlib.sha256)).decode()
        head = (
            f"POST {url_path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-ndjson\r\nwebhook-id: {id_}\r\n"
            f"webhook-timestamp: {moment}\r\nwebhook-signature: v1,{signature}\r\nContent-Length: {len(lines)}\r\n\r\n"
        )
        return head.encode() + lines


@dataclass(frozen=True, slots=True)
class Brought:
    """What came of the posts. `seconds`: from the first request to the last answer."""

    posts: int
    counted: int
    failed: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Signatures counted, per second."""
        return self.counted / self.seconds


class _Posting:
    """Keeps every connection busy until so many posts are made."""

    def __init__(self, partner: Partner, posts: int, ended: asyncio.Event) -> None:
        self._partner = partner
        self._path = f"/v1/partners/{partner.slug}/signatures"
        self._left = posts or sys.maxsize
        self._ended = ended
        self._under_way = 0
        self.answered = self.counted = self.failed = 0
        self.began = 0.0
        # Written before the clock starts, so that no connection waits for its first.
        self._written = [self._write() for _ in range(4)]

    def _write(self) -> bytes:
        return self._partner.post(self._path, secrets.token_hex(6).encode())

    def take(self) -> tuple[int, bytes] | None:
        if not self._left or self._ended.is_set():
            return None
        self.began = self.began or time.monotonic()
        self._left -= 1
        self._under_way += 1
        return 0, self._written.pop() if self._written else self._write()

    def settle(self, _number: int, answer: Answer | None) -> None:
        self._under_way -= 1
        if not self.answered:
            print(_BEGUN, flush=True)
        self.answered += 1
        found = _COUNTED.search(answer.body[-200:]) if answer and answer.status == 200 else None
        self.counted += int(found[1]) if found else 0
        self.failed += found is None or int(found[1]) != ITEMS
        if not self._left and not self._under_way:
            self._ended.set()


async def _post(url: str, connections: int, posts: int) -> Brought:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    partner = Partner(**{name: os.environ[f"BENCH_{name.upper()}"] for name in ("slug", "secret", "petition")})
    posting = _Posting(partner, posts, ended)
    async with Pool(url, connections, posting.take, posting.settle):
        await ended.wait()
    seconds = time.monotonic() - posting.began
    return Brought(posting.answered, posting.counted, posting.failed, seconds)


@contextlib.contextmanager
def bringing(url: str, partner: Partner, connections: int, posts: int = 0) -> Iterator[subprocess.Popen[str]]:
    """The posting process, once its first post has been answered; without `posts` it goes on until the block ends."""
    known = {f"BENCH_{name.upper()}": value for name, value in asdict(partner).items()}
    arguments = [sys.executable, "-m", "bench.bringing", url, str(connections), str(posts)]
    process = subprocess.Popen(arguments, env=environment(**known), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != _BEGUN:
            raise RuntimeError("the partner could not begin to post")
        yield process
    finally:
        process.terminate()
        process.wait()


def result(process: subprocess.Popen[str]) -> Brought:
    """How the posting went, once it is over."""
    out, _ = process.communicate()
    return Brought(**json.loads(out.strip().splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(_post(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))))
