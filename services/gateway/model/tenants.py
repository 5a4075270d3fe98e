"""Tenants and their keys."""

from __future__ import annotations

from datetime import datetime

import msgspec

from services.gateway.model.view import View
from solyx.security import Role


class Tenant(View, frozen=True, kw_only=True):
    name: str
    home_site: str | None = None
    created_at: datetime


class NewTenant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/tenants."""

    name: str
    home_site: str | None = None


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of POST /v1/tenants/{name}/keys."""

    role: Role = Role.SUBMITTER
    label: str = ""


class ApiKey(View, frozen=True, kw_only=True):
    """A key as it is listed: never the key itself."""

    id: str
    tenant: str
    role: Role
    label: str
    created_at: datetime
    revoked_at: datetime | None = None


class IssuedKey(ApiKey, frozen=True, kw_only=True):
    """A key just made; ``key`` is shown this once."""

    key: str


class TenantList(View, frozen=True, kw_only=True):
    tenants: list[Tenant]


class KeyList(View, frozen=True, kw_only=True):
    keys: list[ApiKey]
