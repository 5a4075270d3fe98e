"""``python -m services.actuator.simulated``: let a node die, or look at what ran. For people, chaos runs and their checkers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from services.actuator.settings import ActuatorSettings
from services.actuator.simulated.cluster import SimulatedCluster, cluster_file
from services.actuator.simulated.run_log import doubled, run_logs
from solyx.command import though_unread
from solyx.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.actuator.simulated.run_log import Run


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0; 1 when a run was doubled; 2 for a site that has no cluster, or settings that do not fit."""
    parser = argparse.ArgumentParser(prog="python -m services.actuator.simulated", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    kill = commands.add_parser("kill-node", help="a node dies now, with all that runs on it")
    kill.add_argument("site")
    kill.add_argument("node")
    kill.add_argument("--down-s", type=float, default=0.0, help="scenario seconds until it is back (default: at once)")
    commands.add_parser("runs", help="every run, one line each")
    chosen = parser.parse_args(arguments)
    try:
        settings = load(ActuatorSettings, "actuator")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    state_dir = Path(settings.state_dir)
    if chosen.command == "runs":
        return _show_runs(state_dir)
    path = cluster_file(state_dir, chosen.site)
    if not path.exists():
        sys.stderr.write(f"no simulated cluster {chosen.site!r} under {state_dir}: set SOLYX_STATE_DIR\n")
        return 2
    cluster = SimulatedCluster(path, settings.clock())
    died = cluster.kill_node(chosen.node, down_s=chosen.down_s)
    cluster.close()
    sys.stdout.write(f"{died} workloads died with node {chosen.node} of {chosen.site}\n")
    return 0


def _show_runs(state_dir: Path) -> int:
    runs = run_logs(state_dir)
    with though_unread():
        _print_runs(runs)
    pairs = doubled(runs)
    for first, second in pairs:
        twice = f"{first.job_id} ran twice at a time: {first.site}.{first.revision} and {second.site}.{second.revision}"
        sys.stderr.write(twice + "\n")
    return 1 if pairs else 0


def _print_runs(runs: Sequence[Run]) -> None:
    for run in runs:
        nodes = ",".join(sorted({pod.node for pod in run.pods}))
        end = "" if run.ended_at is None else run.ended_at.isoformat()
        line = (run.site, f"{run.job_id}.{run.revision}", nodes, run.started_at.isoformat(), end, run.phase, run.reason)
        sys.stdout.write("\t".join(line) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
