"""How the processes of a comparison find each other, hand things over, and notice that one of them has died.

They meet at the key-value store of `torch.distributed` (TCP), whose address torchrun and clusters put into the environment. There
are no collective operations: nobody waits for anybody without looking at whether he is alive.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # which are its public names

from torchbcos._core.errors import BcosError, StateError, shorten
from torchbcos._core.names import whole_number

__all__ = ["Meeting"]

_BEAT = 2.0  # seconds between signs of life
_PATIENCE = 120.0  # seconds without a sign of life after which a process counts as dead: machines that swap are slow
_LOOK = 0.1
_HEARD = 30.0  # seconds in which the first process should notice that another one failed
_PART = 2**20  # bytes of a value: the server refuses much larger ones
_ENOUGH = 600  # seconds in which all processes must have begun


class Meeting:
    """The processes of one comparison.

    Args:
        rank, world: this process, and how many there are.
        host, port: of the store.
        serve: whether the store runs in this process; else it runs where torchrun put it, or in the first process.
        name: of the meeting: a later one of the same processes has another.
        patience: seconds without a sign of life after which a process counts as dead.

    Raises:
        StateError: there is no store at this address.
    """

    def __init__(
        self, rank: int, world: int, host: str, port: int, *, serve: bool, name: str = "", patience: float = _PATIENCE
    ) -> None:
        self.rank, self.world, self.patience = rank, world, patience
        self._seen: dict[int, tuple[bytes, float]] = {}
        waits = timedelta(seconds=_ENOUGH)
        self._ending = threading.Event()
        try:
            # two connections: while one waits for an answer, the other says that this process lives
            own, beating = (
                TCPStore(host, port, is_master=serve and first, timeout=waits, wait_for_workers=False) for first in (True, False)
            )
        except RuntimeError as error:
            raise StateError(
                f"The processes of this comparison cannot meet at {host}:{port}: {shorten(str(error).splitlines()[0], 150)} "
                "MASTER_ADDR and MASTER_PORT are the address of the first machine and a free port of it."
            ) from None
        self._store: Store = PrefixStore(f"torchbcos-{name}", own)
        self._beat(PrefixStore(f"torchbcos-{name}", beating))

    @classmethod
    def here(cls, rank: int, world: int, number: int = 0) -> Meeting:
        """The meeting that the environment names, as torchrun and clusters say it: the `number`-th of these processes.

        Raises:
            StateError: it names none, or nobody answers.
        """
        found = os.environ
        host, port = found.get("MASTER_ADDR", ""), whole_number(found.get("MASTER_PORT", ""))
        if not host or port is None:
            raise StateError("MASTER_ADDR and MASTER_PORT, where the processes meet, are not in the environment: use torchrun.")
        serve = rank == 0 and found.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        return cls(rank, world, host, port, serve=serve, name=f"{found.get('TORCHELASTIC_RESTART_COUNT', '0')}-{number}")

    def _beat(self, store: Store) -> None:
        """Say that this process lives, until it leaves."""

        def beat() -> None:
            count = 0
            while not self._ending.is_set():
                count += 1
                try:
                    store.set(f"alive-{self.rank}", str(count))
                except RuntimeError:  # the store is gone, which `wait` tells
                    return
                self._ending.wait(_BEAT)

        threading.Thread(target=beat, name="sign-of-life", daemon=True).start()

    # -- handing over --------------------------------------------------------------------------------------------------

    def post(self, key: str, value: Any) -> None:
        """Hand a value, as JSON has them, to all others."""
        data = zlib.compress(json.dumps(value).encode())
        parts = [data[i : i + _PART] for i in range(0, len(data), _PART)]
        with self._answers():
            for number, part in enumerate(parts):
                self._store.set(f"{key}/{number}", part.hex())
            self._store.set(key, str(len(parts)))

    def wait(self, key: str, of: int) -> Any:
        """What a process posts under a key, once it has.

        Raises:
            StateError: the process, or the store, died before; or some process failed.
        """
        began = time.monotonic()
        with self._answers():
            while not self._store.check([key]):
                self._check(of, began)
                time.sleep(_LOOK)
            count = int(self._store.get(key))
            data = b"".join(bytes.fromhex(self._store.get(f"{key}/{number}").decode()) for number in range(count))
        return json.loads(zlib.decompress(data))

    def take(self, what: str) -> int:
        """The next number, from 0 on, that no process has taken."""
        with self._answers():
            return int(self._store.add(what, 1)) - 1

    def taken(self, what: str) -> int:
        """How many numbers were taken."""
        with self._answers():
            return int(self._store.add(what, 0))

    # -- who is alive --------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> bool:
        """Tell the others that this process ends before its time; whether the first process has heard it, or knew it."""
        known = isinstance(error, BcosError)
        said = str(error) if known else type(error).__name__
        ends = time.monotonic() + (_HEARD if known and self.rank else 0)
        if self._ending.is_set():
            return False
        try:
            if not self._store.check(["failed"]):
                self._store.set("failed", json.dumps([self.rank, socket.gethostname(), shorten(said, 400)]))
            # what started the processes ends all when one of them has ended: the first must have said why
            while not self._store.check(["left-0"]) and time.monotonic() < ends:
                time.sleep(_LOOK)
            return self._store.check(["left-0"])
        except RuntimeError:  # nobody listens
            return False

    def check(self) -> None:
        """Look whether some process failed.

        Raises:
            StateError: one did.
        """
        with self._answers():
            if self._store.check(["failed"]):
                rank, host, said = json.loads(self._store.get("failed"))
                if rank != self.rank:
                    raise StateError(shorten(f"Process {rank} of {self.world} (on {host}) stopped: {said}", 500))

    def _check(self, of: int, began: float) -> None:
        self.check()
        key = f"alive-{of}"
        sign = self._store.get(key) if self._store.check([key]) else b""
        last, since = self._seen.get(of, (b"", began))
        if sign != last:
            self._seen[of] = (sign, time.monotonic())
            return
        self._seen.setdefault(of, (sign, began))
        limit = self.patience if sign else _ENOUGH
        if time.monotonic() - since > limit:
            raise StateError(
                f"Process {of} of {self.world} gave no sign of life for {limit:.0f} seconds: it was killed, or its machine is "
                "gone. What was computed is kept: run the same command again."
            )

    def leave(self, *, last: bool = False) -> None:
        """Stop saying that this process lives; where the store runs here (`last`), after the others have left."""
        if self._ending.is_set():
            return
        try:
            self._store.set(f"left-{self.rank}", "1")
            ends = time.monotonic() + min(10.0, self.patience)
            while last and time.monotonic() < ends and not self._store.check([f"left-{r}" for r in range(self.world)]):
                time.sleep(_LOOK)
        except RuntimeError:
            pass
        self._ending.set()

    @contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except BcosError:
            raise
        except RuntimeError:  # of torch's store: its process has ended
            self._ending.set()
            raise StateError(
                "The first process of this comparison, or what started it, ended before its time. What was computed is kept: run "
                "the same command again."
            ) from None
