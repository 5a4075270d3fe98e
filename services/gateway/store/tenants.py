"""Tenants and the digests of their API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from services.gateway.model import ApiKey, IssuedKey, Tenant
from services.gateway.store.tables import API_KEYS, TENANTS
from solyx.clock import new_id
from solyx.security import Principal, Role, digest, matches, new_key

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_KEY_COLUMNS = (
    API_KEYS.c.id,
    API_KEYS.c.tenant,
    API_KEYS.c.role,
    API_KEYS.c.label,
    API_KEYS.c.created_at,
    API_KEYS.c.revoked_at,
)


class TenantStore:
    """Who may ask, and for whom."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def principal(self, key: str) -> Principal | None:
        """Whose key it is; None: nobody's, or it was revoked."""
        query = select(API_KEYS.c.id, API_KEYS.c.tenant, API_KEYS.c.role, API_KEYS.c.digest)
        query = query.where(API_KEYS.c.digest == digest(key), API_KEYS.c.revoked_at.is_(None))
        async with self._engine.connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None or not matches(key, bytes(row[3])):
            return None
        return Principal(key_id=row[0], tenant=row[1], role=Role(row[2]))

    async def all(self) -> list[Tenant]:
        """By name."""
        query = select(TENANTS.c.name, TENANTS.c.home_site, TENANTS.c.created_at).order_by(TENANTS.c.name)
        async with self._engine.connect() as connection:
            return [_tenant(row) for row in await connection.execute(query)]

    async def create(self, name: str, home_site: str | None) -> Tenant | None:
        """None: there is one of that name."""
        statement = insert(TENANTS).values(name=name, home_site=home_site).on_conflict_do_nothing()
        returning = statement.returning(TENANTS.c.name, TENANTS.c.home_site, TENANTS.c.created_at)
        async with self._engine.begin() as connection:
            row = (await connection.execute(returning)).one_or_none()
        return _tenant(row) if row is not None else None

    async def ensure(self, name: str, home_site: str | None) -> None:
        """Create the tenant, or move its home where one is given."""
        statement = insert(TENANTS).values(name=name, home_site=home_site)
        home = func.coalesce(statement.excluded.home_site, TENANTS.c.home_site)
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={"home_site": home})
        async with self._engine.begin() as connection:
            await connection.execute(statement)

    async def issue_key(self, tenant: str, role: Role, label: str) -> IssuedKey | None:
        """A new key, shown this once; None: no such tenant."""
        key = new_key()
        values = {"id": new_id(), "tenant": tenant, "role": role.value, "digest": digest(key), "label": label}
        async with self._engine.begin() as connection:
            known = await connection.execute(select(TENANTS.c.name).where(TENANTS.c.name == tenant))
            if known.one_or_none() is None:
                return None
            row = (await connection.execute(insert(API_KEYS).values(values).returning(*_KEY_COLUMNS))).one()
        return IssuedKey(**_key_fields(row), key=key)

    async def keys(self, tenant: str) -> list[ApiKey]:
        """Oldest first, revoked ones too."""
        query = select(*_KEY_COLUMNS).where(API_KEYS.c.tenant == tenant).order_by(API_KEYS.c.id)
        async with self._engine.connect() as connection:
            return [ApiKey(**_key_fields(row)) for row in await connection.execute(query)]

    async def revoke(self, tenant: str, key_id: str) -> bool:
        """False: the tenant has no such key. Revoking twice changes nothing."""
        statement = (
            update(API_KEYS)
            .where(API_KEYS.c.id == key_id, API_KEYS.c.tenant == tenant)
            .values(revoked_at=func.coalesce(API_KEYS.c.revoked_at, func.now()))
            .returning(API_KEYS.c.id)
        )
        async with self._engine.begin() as connection:
            return (await connection.execute(statement)).one_or_none() is not None


def _tenant(row: Row[Any]) -> Tenant:
    return Tenant(name=row[0], home_site=row[1], created_at=row[2])


def _key_fields(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row[0],
        "tenant": row[1],
        "role": Role(row[2]),
        "label": row[3],
        "created_at": row[4],
        "revoked_at": row[5],
    }
