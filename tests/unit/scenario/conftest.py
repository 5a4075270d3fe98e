"""A small scenario that a test changes at one place."""

from collections.abc import Callable
from pathlib import Path

import pytest

DOCUMENT = """\
name = "small"
start = 2023-06-01T00:00:00Z
currency = "EUR"

[jobs]
file = "jobs.csv"
format = "openb"
offset_s = 1000
tenants = 4
max_delay_h = { BE = 24, LS = 0 }
duration_estimate = { noise = "lognormal", sigma = 0.5 }
data_gib = { per_gpu = 20 }
egress_eur_per_gib = 0.0005

[[sites]]
name = "berlin"
energy = { zone = "DE", file = "energy.csv", published = "12:45", timezone = "Europe/Berlin" }
nodes = { count = 2, cpu = 32, memory_gib = 128 }
power = { idle_w_per_node = 250, w_per_core = 6, w_per_gpu = 300, pue = 1.25 }

[[sites.outages]]
node = "berlin-001"
from_h = 2
until_h = 3.5

[[sites]]
name = "texas"
energy = { zone = "TX", file = "energy.csv", published = "13:30", timezone = "America/Chicago" }
nodes = { file = "nodes.csv", select = "index % 2 == 1" }
power = { w_per_core = 6, pue = 1.3 }

[network]
links = [
  { a = "berlin", b = "hub", capacity_gbps = 40, latency_ms = 10 },
  { a = "hub", b = "texas", capacity_gbps = 40, latency_ms = 30.5 },
]
background = { file = "traffic.csv", period_s = 60 }
"""

JOBS = """\
name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
later,4000,1024,2,1000,V100M16|V100M32,LS,Running,1500,2500,1600
running,8000,2048,1,460,,BE,Running,200,1400,200
over,1000,1,0,0,,LS,Succeeded,100,1000,100
first,2000,512,0,0,,BE,Running,1000,,1000
instant,2000,512,0,0,,LS,Failed,1800,1800,
"""

NODES = """\
sn,cpu_milli,memory_mib,gpu,model
n0,32000,262144,0,
n1,96000,786432,8,V100M16
n2,64000,262144,2,T4
n3,64000,262144,0,
"""

ENERGY = """\
time,price_eur_mwh,carbon_gco2_kwh,renewable_pct
2023-05-31T22:00:00Z,50.5,400,30
2023-05-31T23:00:00Z,,410,31
2023-06-01T00:00:00Z,-3.25,420,32
2023-06-01T02:00:00Z,70,440,
"""

TRAFFIC = """\
period,source,target,rate_bps
0,berlin,texas,1e9
0,hub,texas,2e9
1,texas,berlin,90e9
"""

FILES = {"scenario.toml": DOCUMENT, "jobs.csv": JOBS, "nodes.csv": NODES, "energy.csv": ENERGY, "traffic.csv": TRAFFIC}

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the small scenario; ``write("jobs.csv", "LS", "XL")`` with one text replaced in one file, or a file's content."""

    def write_files(file: str = "", old: str = "", new: str = "", *, content: str | None = None) -> Path:
        for name, text in FILES.items():
            changed = text
            if name == file and content is not None:
                changed = content
            elif name == file:
                assert old in text
                changed = text.replace(old, new, 1)
            (tmp_path / name).write_text(changed)
        return tmp_path

    return write_files
