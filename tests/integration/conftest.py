"""Fixtures of several integration tests."""

from collections.abc import AsyncIterator

import pytest

from tests.gateway_app import Running, running


@pytest.fixture
async def solyx(postgres_url: str) -> AsyncIterator[Running]:
    async with running(postgres_url) as gateway:
        yield gateway


@pytest.fixture
async def still(postgres_url: str) -> AsyncIterator[Running]:
    """Accepts jobs, but nothing moves on."""
    async with running(postgres_url, workers=False) as gateway:
        yield gateway
