"""First set-up of an installation: tables, tenants with their homes, and one key each, written to a file and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.gateway.store.schema import BOOTSTRAP_LOCK, migrate
from services.gateway.store.tenants import TenantStore
from solyx.database import make_engine, with_lock
from solyx.security import Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ADMIN = "admin"


def tenant_names(count: int) -> list[str]:
    """``tenant-0`` and so on, as the scenarios call them."""
    return [f"tenant-{number}" for number in range(count)]


async def bootstrap(url: str, key_file: Path, *, tenants: int, home_sites: Sequence[str]) -> None:
    """Make the admin tenant and ``tenants`` others, tenant k at home in site k modulo their number, with a valid key each.

    Idempotent: keys in the file that still work are kept. The file is JSON, tenant → key, readable by its owner only.

    Raises:
        OSError: the file cannot be written.
    """
    await migrate(url)

    async def work() -> None:
        engine = make_engine(url, pool_size=2)
        try:
            await _fill(TenantStore(engine), key_file, tenants, home_sites)
        finally:
            await engine.dispose()

    await with_lock(url, BOOTSTRAP_LOCK, work)


async def _fill(store: TenantStore, key_file: Path, tenants: int, home_sites: Sequence[str]) -> None:
    keys = _read(key_file)
    for number, name in enumerate([ADMIN, *tenant_names(tenants)], start=-1):
        home = home_sites[number % len(home_sites)] if home_sites and name != ADMIN else None
        await store.ensure(name, home)
        principal = await store.principal(keys[name]) if name in keys else None
        if principal is None or principal.tenant != name:
            issued = await store.issue_key(name, Role.ADMIN if name == ADMIN else Role.SUBMITTER, "bootstrap")
            assert issued is not None, "the tenant was made above"
            keys[name] = issued.key
    _write(key_file, keys)


def _read(key_file: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(key_file.read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _write(key_file: Path, keys: dict[str, str]) -> None:
    key_file.parent.mkdir(parents=True, exist_ok=True)
    temporary = key_file.with_name(f".{key_file.name}.tmp")
    temporary.touch(mode=0o600)
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(keys)) + b"\n")
    temporary.replace(key_file)
