"""`multitude`'s commands, run to their end by processes that have its code loaded already.

Loading it takes a second or two, and the tests give sixty commands. So one process loads it (`python -m
tests.support.commands`) and forks for each command. That is a process with arguments, environment, outputs and an exit
status of its own, as if it had been started by itself; only what is read before the settings are, it has read before.
"""

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

_ROOT = Path(__file__).parents[2]
_MOST = 1 << 18


class Running:
    """A command that has been begun, to be waited for and killed as one of `subprocess` is."""

    def __init__(self, told: socket.socket, words: Sequence[str]) -> None:
        self._told = told
        self._words = words
        self.pid = int(told.recv(_MOST))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, negative if a signal ended it; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its exit status; TimeoutExpired when it takes longer."""
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                self.returncode = int(self._told.recv(_MOST))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(list(self._words), timeout or 0) from None
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


class Forker:
    """The process that forks, begun by the first command, ended when whoever began it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, words: Sequence[str], environment: dict[str, str], files: Sequence[int]) -> Running:
        """Begin a command with these files as its outputs."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, self._lock:
            asked = json.dumps({"words": words, "environment": environment}).encode()
            socket.send_fds(self._begun(), [asked], [theirs.fileno(), *files])
        return Running(ours, words)

    def _begun(self) -> socket.socket:
        if self._control is None:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.support.commands", str(theirs.fileno())],
                    cwd=_ROOT,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
        return self._control


def main(control: socket.socket) -> None:
    """Fork for whatever is asked, until nobody is left to ask."""
    from app import cli

    # What is loaded stays: no child need look at it, which would copy it.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        asked, files, _, _ = socket.recv_fds(control, _MOST, 3)
        if not asked:
            return
        if os.fork() == 0:
            control.close()
            _watch(cli, json.loads(asked), files)
        for file in files:
            os.close(file)


def _watch(cli: Any, asked: dict[str, Any], files: Sequence[int]) -> NoReturn:
    """Fork once more, and tell what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    told = socket.socket(fileno=files[0])
    pid = os.fork()
    if pid == 0:
        told.close()
        _become(cli, asked, files[1:])
    told.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # nobody waits any more
        told.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(cli: Any, asked: dict[str, Any], files: Sequence[int]) -> NoReturn:
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(asked["environment"])
    # As the installed command is started: by its name.
    sys.modules["__main__"].__package__ = None
    sys.argv = ["multitude", *asked["words"]]
    status = 1
    try:
        cli.main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - told as any program tells it
        traceback.print_exc()
    finally:
        # What a program does at its exit, but for taking all that is loaded apart.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
