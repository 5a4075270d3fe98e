"""What the broker and the database have in common: a server on loopback as a child process, which keeps its data."""

import signal
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from devstack import child


class Server(ABC):
    """`with server: …`; it may be killed and started again on the port it had."""

    stop_signal: ClassVar[signal.Signals]  # asks the server to end in order
    stop_within_s: ClassVar[float]  # then it is killed

    def __init__(self, directory: Path | str, *, port: int | None) -> None:
        """`port` fixes the port; without it a free one is chosen and kept for this object's life."""
        self._directory = Path(directory).absolute()
        self._fixed_port = port
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> Self:
        """Returns when the server answers."""

    @abstractmethod
    def _release_ports(self) -> None:
        """Nobody is to find the server there again."""

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self.is_running and self._process is not None else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self, *, within_s: float | None = None) -> None:
        """Ends the server in order; the data is on disk."""
        self._end(self.stop_signal, self.stop_within_s if within_s is None else within_s)

    def kill(self) -> None:
        """Ends the server as a power cut would. `start()` brings it back on the same port with what was committed."""
        self._end(signal.SIGKILL, self.stop_within_s)

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def _end(self, how: signal.Signals, within_s: float) -> None:
        if self._process is not None:
            child.end(self._process, how=how, within_s=within_s)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._release_ports()
