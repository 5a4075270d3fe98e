"""`python -m devstack`, which is what `./run` runs: options, signals, one message for what can go wrong."""

import os
import signal
import sys
import threading
from types import FrameType

from devstack.errors import DevstackError
from devstack.options import parse
from devstack.replay import replay
from solyx.scenario import ScenarioError

_WRONG = 2


def main(arguments: list[str]) -> int:
    """The exit status: 0 stopped as asked, 2 something is to be put right first."""
    stop = threading.Event()

    def asked_to_stop(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(130)  # asked twice: at once; the kernel ends our children with us
        stop.set()

    try:
        options = parse(arguments)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, asked_to_stop)
        replay(options, stop)
    except DevstackError as error:
        print(f"./run: {error.message}\n  what to do: {error.cure}", file=sys.stderr)
        return _WRONG
    except ScenarioError as error:
        print(f"./run: the scenario is broken\n  {error}", file=sys.stderr)
        return _WRONG
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
