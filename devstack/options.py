"""What `./run` understands on its command line, parsed into one frozen value."""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from devstack.errors import DevstackError

SERVICES = ("gateway", "collector", "forecaster", "cmo", "drm", "sdn", "actuator")
"""In the order in which an event passes them; the gateway's port is the API's."""
DEFAULT_SPEED = 600.0  # a day in 144 s: prices move visibly, jobs of minutes can still be followed
DEFAULT_API_PORT = 8080
MAX_REPLICAS = 8
MAX_SPEED = 86_400.0  # a day each second; above it an hour of prices passes within one decision

_ABOUT = """\
Starts Solyx on this machine: a real Apache Kafka broker, a real PostgreSQL, every service as its own process,
and a scenario that is replayed in fast motion. Shows what happens until Ctrl-C, which stops everything.

A second start goes on where the first stopped; --fresh forgets. Nothing outside the state directory is touched.
"""
_EXAMPLES = """\
examples:
  ./run                                             a small generated scenario, at 600 scenario seconds per second
  ./run --scenario DIR --speed 7200 --for 120 --report r.json
                                                    two minutes of a scenario of yours, and what came of it
  ./run --no-submit --speed 1                       an empty system in real time, for jobs of your own
  ./run --replicas drm=2 --replicas actuator=2      two processes share the sites

settings (environment):
  SOLYX_KAFKA_BOOTSTRAP_SERVERS   use this Kafka (host:port) instead of starting one
  SOLYX_DATABASE_URL              use this PostgreSQL (postgresql+asyncpg://user:password@host/database)
  SOLYX_…                         any other setting of the services: docs/configuration.md

exit status: 0 stopped as asked, 1 a bug in Solyx, 2 something is to be put right first (the message says what)
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """One start."""

    state: Path
    scenario: Path | None = None  # None: the one of the state directory, or else a generated one
    speed: float = DEFAULT_SPEED  # scenario seconds in a second
    for_s: float | None = None  # stop by itself so long after all services are ready
    report: Path | None = None
    fresh: bool = False
    replicas: Mapping[str, int] = field(default_factory=dict[str, int])
    api_port: int = DEFAULT_API_PORT  # 0: a free one
    submit: bool = True
    kafka: str = ""  # bootstrap servers of an existing cluster; empty: embedded
    database: str = ""  # URL of an existing database; empty: embedded

    def processes(self) -> list[tuple[str, int]]:
        """Service and replica number of every process."""
        return [(service, number) for service in SERVICES for number in range(self.replicas.get(service, 1))]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in the same way as everything else here."""

    def error(self, message: str) -> NoReturn:
        raise DevstackError(message, "./run --help shows what there is")


def parse(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> Options:
    """The options.

    Raises:
        DevstackError: an argument does not fit; it says which and what to write.
        SystemExit: after --help.
    """
    environment = os.environ if environment is None else environment
    chosen = _parser().parse_args(arguments)
    return Options(
        state=chosen.state.absolute(),
        scenario=chosen.scenario.absolute() if chosen.scenario is not None else None,
        speed=chosen.speed,
        for_s=chosen.for_s,
        report=_writable(chosen.report),
        fresh=chosen.fresh,
        replicas=_replicas(chosen.replicas),
        api_port=chosen.api_port,
        submit=chosen.submit,
        kafka=environment.get("SOLYX_KAFKA_BOOTSTRAP_SERVERS", ""),
        database=environment.get("SOLYX_GATEWAY_DATABASE_URL", "") or environment.get("SOLYX_DATABASE_URL", ""),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="./run", description=_ABOUT, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scenario",
        metavar="DIR",
        type=Path,
        help="the scenario to replay (a directory with scenario.toml); without it the one of the state directory,"
        " and at first a small one that is generated",
    )
    parser.add_argument(
        "--speed", metavar="X", type=_speed, default=DEFAULT_SPEED, help="scenario seconds per second (%(default)g)"
    )
    parser.add_argument(
        "--for",
        dest="for_s",
        metavar="SECONDS",
        type=_seconds,
        help="stop by itself so many seconds after all services are ready",
    )
    parser.add_argument("--report", metavar="FILE", type=Path, help="write what came of it as JSON (docs/report.md)")
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="forget what an earlier start left in the state directory; an existing Kafka or PostgreSQL must be empty",
    )
    parser.add_argument(
        "--replicas",
        metavar="SERVICE=N",
        action="append",
        default=[],
        help=f"so many processes of a service, 1 to {MAX_REPLICAS}, of gateway and collector one; may be repeated."
        f" Services: {', '.join(SERVICES)}",
    )
    parser.add_argument(
        "--state", metavar="DIR", type=Path, default=Path(".solyx"), help="where everything is kept (%(default)s)"
    )
    parser.add_argument(
        "--api-port",
        metavar="PORT",
        type=_port,
        default=DEFAULT_API_PORT,
        help="where the REST API listens (%(default)s); 0: any free port",
    )
    parser.add_argument(
        "--no-submit",
        dest="submit",
        action="store_false",
        help="do not submit the scenario's jobs, only replay its world",
    )
    return parser


def _replicas(texts: Sequence[str]) -> dict[str, int]:
    replicas: dict[str, int] = {}
    for text in (part for given in texts for part in given.split(",")):
        name, _, number = text.partition("=")
        if name not in SERVICES:
            raise DevstackError(
                f"--replicas {text}: no service is named {name!r}", f"the services are {', '.join(SERVICES)}"
            )
        if not number.isdecimal() or not 1 <= int(number) <= MAX_REPLICAS:
            raise DevstackError(f"--replicas {text}: {number!r} is no number of processes", f"write {name}=2")
        replicas[name] = int(number)
    if replicas.get("gateway", 1) > 1:
        raise DevstackError(
            "--replicas gateway: one port has room for one gateway here", "behind a load balancer it takes several"
        )
    if replicas.get("collector", 1) > 1:
        raise DevstackError(
            "--replicas collector: two would tell every price and every sample of the scenario twice",
            "a scenario has one collector; if it dies it is started again and goes on",
        )
    return replicas


def _writable(report: Path | None) -> Path | None:
    """Told now, not after two minutes of work."""
    if report is None:
        return None
    folder = report.absolute().parent
    if not folder.is_dir() or report.is_dir() or not os.access(folder, os.W_OK):
        raise DevstackError(f"--report {report}: cannot be written there", "name a file in a folder that exists")
    return report.absolute()


def _speed(text: str) -> float:
    value = _number(text)
    if not 0 < value <= MAX_SPEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most {MAX_SPEED:g}")
    return value


def _seconds(text: str) -> float:
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is negative")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not finite")
    return value


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port (0 to 65535)")
    return int(text)
