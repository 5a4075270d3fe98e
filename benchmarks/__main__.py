"""``python -m benchmarks NAME [--json FILE] [--check]``: measure, print a table, compare with the targets."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.harness import load_targets, shortfalls, show, write_json

BENCHMARKS = {
    "pipeline": "submission rate, submit-to-allocation latency, records/s and memory of each service, start-up",
    "metrics": "metric samples into feature windows, through a real broker, one worker",
    "chaos": "5,000 jobs while each service and the broker are killed: jobs lost and doubled",
    "fairness": "eight unequal tenants on the openb cluster: dominant shares against progressive filling, lending and return",
    "admission": "Kueue's scalability workload in real time, 15,000 workloads; --large: 50,000 over 1,000 queues",
    "energy": "a year of real jobs on four real grids: cost, carbon and waits of every policy, and the gap to a lower bound",
    "packing": "share of a GPU cluster that packing allocates until it is full, against published policies",
    "scheduler": "decisions/s in the core with 10,000 nodes and 100,000 queued jobs; jobs/s through Kafka to allocation",
    "demand_response": "256 GPUs asked to shed a quarter of their power for 3 h: how much, how fast, how long, at whose cost",
}


def main() -> int:
    """Run one benchmark; exit 1 with --check when a figure falls short."""
    listing = "\n".join(f"  {name:15} {text}" for name, text in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure Solyx on this machine, with a real broker and a real database.\n\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=BENCHMARKS, metavar="NAME", help="which one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument(
        "--check", action="store_true", help="exit 1 when a figure falls short of benchmarks/targets.toml"
    )
    parser.add_argument("--large", action="store_true", help="the benchmark's large configuration, where it has one")
    options = parser.parse_args()

    console = Console()
    module = importlib.import_module(f"benchmarks.{options.name}")
    if options.large and not hasattr(module, "measure_large"):
        parser.error(f"--large: {options.name} has no large configuration")
    name = f"{options.name}_large" if options.large else options.name
    targets = load_targets().get(name, {})
    figures = (module.measure_large if options.large else module.measure)(console)
    show(name, figures, targets, console)
    if options.json:
        write_json(options.json, name, figures)
    missing = shortfalls(figures, targets)
    for line in missing:
        console.print(f"[red]short[/red] {line}", highlight=False)
    return 1 if options.check and missing else 0


if __name__ == "__main__":
    sys.exit(main())
