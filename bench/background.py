"""`python -m bench.background URL PETITION RATE`: people sign at a steady rate until SIGTERM.

A process of its own, so that neither what is measured nor what measures it shares a loop with it.
"""

import asyncio
import contextlib
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import uvloop

from bench.people import Requests
from bench.wire import Answer, Pool
from tests.support.services import environment

CONNECTIONS = 32
_STEP = 0.01
_BEGUN = "the first has been answered"


class _Steady:
    """Lets through as many as are due."""

    def __init__(self, petition: str, rate: float) -> None:
        self._requests = Requests(petition, secrets.token_hex(5))
        self._rate = rate
        self._began = time.monotonic()
        self._asked = 0
        self.refused = 0

    def take(self) -> tuple[int, bytes] | None:
        if self._asked >= (time.monotonic() - self._began) * self._rate:
            return None
        self._asked += 1
        return self._asked, self._requests.of(self._asked, b"UG")

    def settle(self, number: int, answer: Answer | None) -> None:
        if number == 1:
            print(_BEGUN, flush=True)
        self.refused += answer is None or answer.status != 201


async def _sign(url: str, petition: str, rate: float) -> int:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    steady = _Steady(petition, rate)
    async with Pool(url, CONNECTIONS, steady.take, steady.settle) as pool:
        while not ended.is_set():
            pool.wake()
            await asyncio.sleep(_STEP)
    return 1 if steady.refused else 0


@contextlib.contextmanager
def signing(url: str, petition: str, rate: float) -> Iterator[None]:
    """People sign at this rate for as long as the block lasts; an error when any of them was refused."""
    arguments = [sys.executable, "-m", "bench.background", url, petition, str(rate)]
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline().strip() != _BEGUN:
            raise RuntimeError("signers in the background could not begin")
        yield
    finally:
        process.terminate()
        status = process.wait()
    if status:
        raise RuntimeError("signers in the background were refused")


if __name__ == "__main__":
    sys.exit(uvloop.run(_sign(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
