"""A collector in this process, with its real HTTP port, on an in-memory bus."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from services.collector.app import collect
from services.collector.config import read_config
from services.collector.settings import CollectorSettings
from solyx.bus.memory import MemoryBus
from solyx.events import Event, decode

E = TypeVar("E", bound=Event)
SOON_S = 60.0


@dataclass
class Running:
    bus: MemoryBus
    url: str

    def events(self, kind: type[E]) -> list[E]:
        """Every event of a type, in order."""
        found = [decode(record.value, record.headers).event for record in self.bus.records(kind.TOPIC)]
        return [event for event in found if isinstance(event, kind)]

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait until it holds."""
        async with asyncio.timeout(SOON_S):
            while not holds():  # noqa: ASYNC110 - what is waited for is in the bus, which has no asyncio event
                await asyncio.sleep(0.02)
        assert holds(), what


@asynccontextmanager
async def running_collector(
    directory: Path, config: dict, *, bus=None, scenario=None, **settings
) -> AsyncIterator[Running]:
    (directory / "collector.yaml").write_text(yaml.safe_dump(config))
    located = read_config(directory / "collector.yaml", {})
    bus = bus or MemoryBus()
    stopping, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(
        collect(CollectorSettings(**settings), located, scenario, bus, stopping, listening.set_result)
    )
    await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    try:
        yield Running(bus, f"http://127.0.0.1:{listening.result()}")
    finally:
        stopping.set()
        async with asyncio.timeout(SOON_S):
            await task
