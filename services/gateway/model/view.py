"""What all records of the API have in common."""

from __future__ import annotations

import msgspec


class View(msgspec.Struct, frozen=True, kw_only=True):
    """A record that the API shows."""
