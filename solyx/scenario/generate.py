"""Makes a small scenario of its own, for a first run and for tests: invented, and it says so.

Same arguments, same bytes: every figure comes from one seeded generator. The shapes are those of real grids (two price peaks a day,
cheaper weekends, a solar dip that goes below zero on bright weekends, carbon that falls with renewables) and of real clusters
(arrivals by day, lognormal durations, shared GPUs); the figures are nobody's.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from solyx.events.event import Model
from solyx.scenario.energy import Values

GENERATED_BY = "solyx.scenario.generate"

START = datetime(2025, 6, 2, tzinfo=UTC)  # a Monday
HISTORY_DAYS = 28  # forecasters learn from them
AFTER_HOURS = 96  # energy goes on after the last arrival, so that a delayed job still has prices
OFFSET_S = 86_400  # pods older than a day at the start are already running
CORES = ("core-1", "core-2")


class _Place(Model, frozen=True):
    """The character of one site."""

    name: str
    timezone: str
    published: str
    price_eur: float  # mean, EUR/MWh
    solar: float  # share of solar in the mix
    wind: float
    fossil_gco2: float  # carbon intensity of what is not renewable
    pue: float


_PLACES = (
    _Place(
        name="north",
        timezone="Europe/Oslo",
        published="12:45",
        price_eur=48,
        solar=0.05,
        wind=0.55,
        fossil_gco2=420,
        pue=1.12,
    ),
    _Place(
        name="south",
        timezone="Europe/Madrid",
        published="13:15",
        price_eur=62,
        solar=0.55,
        wind=0.15,
        fossil_gco2=480,
        pue=1.28,
    ),
    _Place(
        name="east",
        timezone="Europe/Warsaw",
        published="13:00",
        price_eur=86,
        solar=0.20,
        wind=0.12,
        fossil_gco2=790,
        pue=1.25,
    ),
    _Place(
        name="west",
        timezone="America/New_York",
        published="11:00",
        price_eur=54,
        solar=0.25,
        wind=0.20,
        fossil_gco2=510,
        pue=1.22,
    ),
)
MAX_SITES = 4 * len(_PLACES)


def generate(directory: Path | str, *, seed: int = 1, sites: int = 3, hours: int = 48, jobs: int = 600) -> Path:
    """Write a self-contained scenario into ``directory`` (made where missing) and return it.

    Raises:
        ValueError: a count is out of range.
        OSError: the directory cannot be written.
    """
    if not (1 <= sites <= MAX_SITES and 1 <= hours <= 24 * 365 and jobs >= 1):
        msg = f"a scenario has 1 to {MAX_SITES} sites, 1 to {24 * 365} hours and at least one job"
        raise ValueError(msg)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    places = [_place(index) for index in range(sites)]
    for place in places:
        _write(directory / f"energy-{place.name}.csv", _energy(place, hours, random))
    _write(directory / "jobs.csv", _jobs(hours, jobs, random))
    latencies_ms = random.uniform(4, 18, size=(sites, len(CORES))).round(1)
    _write(directory / "traffic.csv", _traffic(places, random))
    _write(directory / "load.csv", _load(hours, random))
    _write(directory / "scenario.toml", _document(places, latencies_ms, seed=seed, hours=hours, jobs=jobs))
    return directory


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")


def _place(index: int) -> _Place:
    place, lap = _PLACES[index % len(_PLACES)], index // len(_PLACES)
    if lap == 0:
        return place
    return _Place(
        name=f"{place.name}-{lap + 1}",
        timezone=place.timezone,
        published=place.published,
        price_eur=place.price_eur + 7 * lap,
        solar=place.solar,
        wind=place.wind * 0.8**lap,
        fossil_gco2=place.fossil_gco2,
        pue=place.pue,
    )


def _smooth(random: np.random.Generator, steps: int, memory: float) -> Values:
    """Noise of unit variance that forgets by ``memory`` a step (AR(1))."""
    shocks = random.standard_normal(steps) * math.sqrt(1 - memory**2)
    values = np.empty(steps)
    level = 0.0
    for step, shock in enumerate(shocks):
        level = memory * level + float(shock)
        values[step] = level
    return values


def _energy(place: _Place, hours: int, random: np.random.Generator) -> str:
    steps = HISTORY_DAYS * 24 + hours + AFTER_HOURS
    first = START - timedelta(days=HISTORY_DAYS)
    longitude_h = -5 if place.timezone.startswith("America") else 1
    local = (np.arange(steps) + longitude_h) % 24
    weekday = ((np.arange(steps) + longitude_h) // 24 + first.weekday()) % 7
    weekend = (weekday >= 5).astype(float)
    clouds = np.clip(0.8 + 0.25 * _smooth(random, steps, 0.97), 0.2, 1.0)
    sun = np.clip(np.sin((local - 5.5) / 15 * math.pi), 0, None) * (local > 5) * (local < 21) * clouds
    wind = np.clip(0.5 + 0.3 * _smooth(random, steps, 0.98), 0.05, 1.0)
    renewable = np.clip(1.5 * place.solar * sun + place.wind * wind, 0.02, 0.97)
    peaks = np.exp(-(((local - 8) / 2.2) ** 2)) + 1.2 * np.exp(-(((local - 19.5) / 2.4) ** 2))
    demand = 0.8 + 0.35 * peaks - 0.12 * weekend - 0.12 * (local < 5)
    surplus = 1.55 * place.solar * sun + 0.35 * place.wind * wind
    price = place.price_eur * (demand + 0.25 - surplus * (1 + 0.55 * weekend)) + 4 * _smooth(random, steps, 0.8)
    carbon = place.fossil_gco2 * (1 - renewable) + 30 * renewable + 6 * _smooth(random, steps, 0.9)
    rows = ["time,price_eur_mwh,carbon_gco2_kwh,renewable_pct"]
    rows += [
        f"{(first + timedelta(hours=step)):%Y-%m-%dT%H:%M:%SZ},{price[step]:.2f},{max(carbon[step], 15):.1f},{100 * renewable[step]:.1f}"
        for step in range(steps)
    ]
    return "\n".join(rows) + "\n"


def _jobs(hours: int, jobs: int, random: np.random.Generator) -> str:
    """Pods in the openb format: a few old ones that are already running, then arrivals that follow the day."""
    already = min(jobs // 60, 12)
    candidates = np.arange(hours * 60)
    weights = 1.0 + 0.6 * np.sin((candidates / 60 - 8) / 24 * 2 * math.pi)
    minutes = random.choice(candidates, size=jobs - already, p=weights / weights.sum())
    arrivals = np.sort(minutes * 60 + random.integers(0, 60, size=jobs - already)) + OFFSET_S
    rows = [
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time"
    ]
    for index in range(jobs):
        old = index < already
        created_s = int(random.integers(0, OFFSET_S)) if old else int(arrivals[index - already])
        quality = "LS" if old else str(random.choice(("LS", "BE", "Burstable"), p=(0.45, 0.50, 0.05)))
        median_s, spread = (4200, 0.9) if quality == "BE" else (900, 1.0)
        duration_s = max(int(random.lognormal(math.log(median_s), spread)), 30)
        deleted_s = (
            OFFSET_S + int(random.integers(1, hours * 3600)) if old else created_s + min(duration_s, hours * 3600)
        )
        gpus, share_milli = _gpus(random)
        cpu_milli = int(random.choice((1000, 2000, 4000))) + 3000 * gpus
        memory_mib = 2 * cpu_milli
        rows.append(
            f"pod-{index:05d},{cpu_milli},{memory_mib},{gpus},{share_milli},,{quality},Running,"
            f"{created_s},{deleted_s},{created_s}"
        )
    return "\n".join(rows) + "\n"


def _gpus(random: np.random.Generator) -> tuple[int, int]:
    gpus = int(random.choice((0, 1, 2, 4), p=(0.15, 0.70, 0.10, 0.05)))
    shared = gpus == 1 and bool(random.random() < 0.4)
    return gpus, int(random.choice((250, 460, 810))) if shared else 1000 * min(gpus, 1)


def _traffic(places: list[_Place], random: np.random.Generator) -> str:
    """A day of hourly traffic between the sites: gravity by random weights, most in the evening."""
    weights = random.uniform(0.5, 1.5, size=len(places))
    rows = ["period,source,target,rate_bps"]
    for period in range(24):
        day = 1 + 0.5 * math.sin((period - 13) / 24 * 2 * math.pi)
        for a, source in enumerate(places):
            for b, target in enumerate(places):
                if a != b:
                    rate_bps = 2.4e9 * weights[a] * weights[b] * day * random.uniform(0.8, 1.2) / len(places)
                    rows.append(f"{period},{source.name},{target.name},{rate_bps:.0f}")
    return "\n".join(rows) + "\n"


def _load(hours: int, random: np.random.Generator) -> str:
    """A service's requests per minute: a day's shape, a quieter weekend, bursts."""
    minutes = np.arange(hours * 60)
    local_h = (minutes / 60 + 1) % 24
    weekend = ((minutes // 1440 + START.weekday()) % 7 >= 5).astype(float)
    level = 600 * (1 + 0.7 * np.sin((local_h - 9) / 24 * 2 * math.pi)) * (1 - 0.3 * weekend)
    bursts = 1 + 1.5 * (random.random(len(minutes)) < 0.002)
    counts = random.poisson(np.clip(level * (1 + 0.1 * _smooth(random, len(minutes), 0.99)) * bursts, 1, None))
    return "\n".join(["minute,requests", *(f"{minute},{count}" for minute, count in enumerate(counts))]) + "\n"


def _document(places: list[_Place], latencies_ms: Values, *, seed: int, hours: int, jobs: int) -> str:
    links = [
        f'  {{ a = "{place.name}", b = "{core}", capacity_gbps = 10, latency_ms = {latencies_ms[index, hub]:.1f} }},'
        for index, place in enumerate(places)
        for hub, core in enumerate(CORES)
    ]
    links.append(f'  {{ a = "{CORES[0]}", b = "{CORES[1]}", capacity_gbps = 40, latency_ms = 3.0 }},')
    failing = f"{places[0].name}>{CORES[int(latencies_ms[0].argmin())]}"  # the one that routes prefer
    return "\n".join(
        [
            "# Generated, not measured: prices, carbon, jobs and network are invented by a seeded program. Make another with",
            f"# python -m solyx.scenario generate DIR --seed {seed} --sites {len(places)} --hours {hours} --jobs {jobs}",
            f'generated_by = "{GENERATED_BY}"',
            f'name = "generated-{len(places)}x{hours}h"',
            f"start = {START:%Y-%m-%dT%H:%M:%SZ}",
            f"hours = {hours}",
            'currency = "EUR"',
            "",
            "[jobs]",
            'file = "jobs.csv"',
            'format = "openb"',
            f"offset_s = {OFFSET_S}",
            "tenants = 4",
            "max_delay_h = { BE = 24, Burstable = 6, LS = 0, Guaranteed = 0 }",
            'duration_estimate = { noise = "lognormal", sigma = 0.3 }',
            "data_gib = { per_gpu = 10 }",
            "egress_eur_per_gib = 0.0005",
            "",
            *(line for place in places for line in _site_lines(place)),
            "[[sites.outages]]                      # of the site above: a machine dies, and comes back",
            f'node = "{places[-1].name}-000"',
            f"from_h = {0.60 * hours:g}",
            f"until_h = {0.66 * hours:g}",
            "",
            "[[loads]]                              # requests per minute to a service",
            'service = "web"',
            f'site = "{places[0].name}"',
            'file = "load.csv"',
            'value = "requests"',
            "period_s = 60",
            "",
            "[network]",
            "links = [",
            *links,
            "]",
            'background = { file = "traffic.csv", period_s = 3600 }',
            f'outages = [{{ link = "{failing}", from_h = {0.40 * hours:g}, until_h = {0.45 * hours:g} }}]',
            "",
        ]
    )


def _site_lines(place: _Place) -> list[str]:
    market = f'zone = "SYN-{place.name.upper()}", file = "energy-{place.name}.csv", published = "{place.published}"'
    return [
        "[[sites]]",
        f'name = "{place.name}"',
        f'energy = {{ {market}, timezone = "{place.timezone}" }}',
        'nodes = { count = 8, cpu = 32, memory_gib = 256, gpu = 4, gpu_model = "A100" }',
        f"power = {{ idle_w_per_node = 250, w_per_core = 6, w_per_gpu = 300, pue = {place.pue} }}",
        "",
    ]
