"""``python -m services.gateway`` serves until SIGTERM; ``… bootstrap --admin-key-file FILE`` sets an installation up."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import uvloop

from services.gateway.app import Gateway
from services.gateway.bootstrap import bootstrap
from services.gateway.settings import GatewaySettings
from solyx.bus.kafka import KafkaBus
from solyx.collection import settle
from solyx.settings import SettingsError, load
from solyx.telemetry import configure


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 after a graceful stop, 1 after a failure, 2 for wrong settings."""
    options = _parser().parse_args(arguments)
    try:
        settings = load(GatewaySettings, "gateway")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    configure("gateway", settings)
    if options.command == "bootstrap":
        return _bootstrap(settings, options)
    return uvloop.run(_serve(settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.gateway", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve until SIGTERM (the default)")
    first = commands.add_parser("bootstrap", help="make tables, tenants and keys; running it again keeps what is there")
    first.add_argument("--admin-key-file", required=True, type=Path, help="where the keys go, as JSON: tenant → key")
    first.add_argument("--tenants", type=int, default=8, help="how many tenants besides the administrator (default 8)")
    first.add_argument("--home-site", action="append", default=[], help="sites in turn the tenants' homes; repeatable")
    return parser


async def _serve(settings: GatewaySettings) -> int:
    settle()
    with KafkaBus(settings.kafka_bootstrap_servers, client_name=f"gateway-{settings.replica}") as bus:
        gateway = Gateway(settings, bus, settings.clock())
        try:
            await gateway.run()
        except OSError as error:
            sys.stderr.write(f"{error.strerror or error}\n")
            return 1
    return 1 if gateway.failure is not None else 0


def _bootstrap(settings: GatewaySettings, options: argparse.Namespace) -> int:
    work = bootstrap(
        settings.database_url, options.admin_key_file, tenants=options.tenants, home_sites=options.home_site
    )
    try:
        asyncio.run(work)
    except OSError as error:
        sys.stderr.write(f"cannot set up: {error}; check SOLYX_DATABASE_URL and {options.admin_key_file}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
