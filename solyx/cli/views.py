"""What the commands show."""

from __future__ import annotations

import itertools
import socket
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from solyx.bus.kafka import KafkaBus
from solyx.bus.port import Transient
from solyx.cli.output import console, errors, moment, number, print_json, print_table, state
from solyx.client import ApiError, Unreachable
from solyx.client.model import TERMINAL
from solyx.clock import monotonic_s
from solyx.command import though_unread
from solyx.events import Poison, decode
from solyx.telemetry import trace_id_of
from solyx.topics import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from solyx.bus.port import Received
    from solyx.client import Client, Energy, Grid, HistoryEntry, Job, JobSummary, PriceRelief, Route, ServerEvent
    from solyx.events import SiteLatenciesMeasured, SiteObserved

READ_TIMEOUT_S = 0.5
CONNECT_TIMEOUT_S = 5.0
WAIT_POLL_S = 0.5
WAIT_PATIENCE_S = 300.0  # a gateway that is updated or restarted is back long before
PASSING = frozenset({429, 502, 503, 504})
"""Statuses that say nothing of the job: ask again."""


class BrokerUnreachable(Exception):  # noqa: N818 - says what happened
    """No answer from Kafka."""


def show_jobs(jobs: Sequence[JobSummary], *, as_json: bool) -> None:
    """A list of jobs."""
    if as_json:
        for job in jobs:
            print_json(job)
        return
    print_table(
        ("id", "name", "tenant", "state", "site", "submitted", "reason"),
        ((j.id, j.name, j.tenant, state(j.state), j.site, moment(j.submitted_at), j.reason) for j in jobs),
    )


def show_job(job: Job, *, as_json: bool) -> None:
    """A job, its resources, and every step with its reason."""
    if as_json:
        print_json(job)
        return
    head = Text.assemble((job.name, "bold"), f"  {job.id}  ", state(job.state), f"  tenant {job.tenant}")
    console.print(head.append(f"  trace {job.trace_id}"))
    if job.spec is not None:
        wants = job.spec.resources
        devices = ", ".join(
            f"{d.count * d.share_milli / 1000:g} {d.kind} {'|'.join(d.models)}".rstrip() for d in wants.devices
        )
        console.print(
            f"{job.spec.parallelism} × {wants.cpu_milli / 1000:g} cores, {wants.memory_bytes / 2**30:.1f} GiB"
            + (f", {devices}" if devices else "")
            + f"; about {job.spec.duration_estimate_s / 3600:.2f} h; {job.spec.image}",
            markup=False,
            highlight=False,
        )
    if job.runs:
        gpu_h, cpu_h = sum(run.gpu_h for run in job.runs), sum(run.cpu_h for run in job.runs)
        kwh, eur = sum(run.energy_kwh for run in job.runs), sum(run.cost_eur for run in job.runs)
        carbon_kg, measured_kwh = sum(run.carbon_kg for run in job.runs), sum(run.measured_kwh for run in job.runs)
        measured = f" ({measured_kwh:.4g} measured)" if measured_kwh else ""
        console.print(
            f"used {cpu_h:.4g} core-h, {gpu_h:.4g} GPU-h, {kwh:.4g} kWh{measured}, {eur:.4g} EUR, {carbon_kg:.4g} kgCO2"
            f" in {len(job.runs)} run{'s' if len(job.runs) > 1 else ''}",
            highlight=False,
        )
    if job.waits is not None:
        until = f" until {moment(job.waits.until)}" if job.waits.until is not None else ""
        detail = f": {job.waits.detail}" if job.waits.detail else ""
        console.print(f"waits since {moment(job.waits.since)}{until} ({job.waits.reason}){detail}", markup=False)
    if job.breach is not None:
        told = f"too far since {moment(job.breach.since)} ({job.breach.reason}): {job.breach.detail}"
        console.print(told, markup=False)
    print_table(
        ("time", "event", "site", "rev", "reason", "figures"),
        ((moment(e.time), _short(e.type), e.site, e.revision, e.reason, _figures(e)) for e in job.history),
    )


def _short(event_type: str) -> str:
    return event_type.removeprefix("io.solyx.").removesuffix(".v1")


def _figures(entry: HistoryEntry) -> str:
    return "\n".join(f"{name} {_value(value)}" for name, value in entry.figures.items() if value not in _NOTHING)


_NOTHING: tuple[Any, ...] = (None, "", [], {})


def _value(value: Any) -> str:
    """A figure in one line: floats to four digits, what is nested in its order."""
    match value:
        case float():
            return f"{value:.4g}"
        case dict():
            return ", ".join(f"{name} {_value(inner)}" for name, inner in value.items() if inner not in _NOTHING)
        case list():
            return "; ".join(_value(inner) for inner in value)
        case _:
            return str(value)


def show_sites(sites: Sequence[SiteObserved], energy: Energy, *, as_json: bool) -> None:
    """Sites with their capacity and their energy now."""
    if as_json:
        for site in sites:
            print_json(site)
        return
    now = {entry.site: entry for entry in energy.sites}
    rows: list[tuple[object, ...]] = []
    for site in sites:
        devices = sum(group.count for node in site.nodes for group in node.devices)
        entry = now.get(site.site)
        rows.append(
            (
                site.site,
                site.zone,
                f"{sum(node.ready for node in site.nodes)}/{len(site.nodes)}",
                number(sum(node.cpu_milli for node in site.nodes) / 1000, 0),
                devices,
                number(entry.price_eur_per_mwh if entry else None),
                number(entry.carbon_gco2_per_kwh if entry else None, 0),
            )
        )
    print_table(("site", "zone", "nodes ready", "cores", "devices", "EUR/MWh", "gCO2/kWh"), rows)


def show_routes(routes: Sequence[Route], *, as_json: bool) -> None:
    """Routes with their backups."""
    if as_json:
        for route in routes:
            print_json(route)
        return
    print_table(
        ("from", "to", "path", "backup", "ms", "spare Gbit/s", "rev", "status", "reason"),
        (
            (
                r.decided.source,
                r.decided.target,
                " ".join(r.decided.path),
                " ".join(r.decided.backup),
                number(r.decided.latency_ms, 1),
                number(r.decided.headroom_bps / 1e9, 1),
                r.decided.revision,
                r.status,
                r.decided.reason,
            )
            for r in routes
        ),
    )


def show_latencies(measured: Sequence[SiteLatenciesMeasured], *, as_json: bool) -> None:
    """Round trips, as the network measures them."""
    if as_json:
        for site in measured:
            print_json(site)
    else:
        print_table(
            ("site", "to", "round trip ms", "since"),
            (
                (
                    site.site,
                    place,
                    number(far.round_trip_ms, 1) if far.round_trip_ms is not None else "no way",
                    moment(far.since),
                )
                for site in measured
                for place, far in sorted(site.places.items())
            ),
        )


def show_grid(grid: Grid, *, as_json: bool) -> None:
    """The grid's events with the sites' answers."""
    if as_json:
        print_json(grid)
        return
    rows: list[tuple[object, ...]] = []
    for entry in grid.events:
        event, response = entry.event, entry.response
        status = event.status if response is None or event.status == "cancelled" else response.status
        figures: tuple[object, ...] = ("", "", "", "", "", "")
        if response is not None:
            done = f"{response.suspended}/{response.migrated}/{response.delayed}/{response.stopped}"
            watts = (response.baseline_w, response.now_w, response.mean_w)
            figures = (*(number(_kw(w), 1) for w in watts), done, response.protected_deadlines_missed, response.detail)
        cap = number(event.power_cap_w / 1000, 1)
        rows.append((event.site, event.event_id, moment(event.start), moment(event.end), cap, status, *figures))
    print_table(
        (
            "site",
            "event",
            "from",
            "to",
            "cap kW",
            "status",
            "before kW",
            "now kW",
            "mean kW",
            "suspended/moved/delayed/stopped",
            "missed",
            "detail",
        ),
        rows,
    )
    if grid.reliefs:
        print_table(
            (
                "site",
                "price",
                "from",
                "to",
                "asked kW",
                "relieved kW",
                "suspended/moved/delayed/stopped",
                "stay",
                "detail",
            ),
            [_relief_row(relief) for relief in grid.reliefs],
        )


def _relief_row(relief: PriceRelief) -> tuple[object, ...]:
    request, answer = relief.request, relief.answer
    done: tuple[object, ...] = ("", "", "", "")
    if answer is not None:
        kept = Counter(one.reason for one in answer.kept)
        stay = ", ".join(f"{count} {reason}" for reason, count in sorted(kept.items()))
        counts = f"{answer.suspended}/{answer.migrated}/{answer.delayed}/{answer.stopped}"
        done = (number(answer.asked_w / 1000, 1), number(answer.relieved_w / 1000, 1), counts, stay)
    return (request.site, request.reason, moment(request.start), moment(request.end), *done, request.detail)


def _kw(watts: float | None) -> float | None:
    return None if watts is None else watts / 1000


def show_event(event: ServerEvent, *, as_json: bool) -> None:
    """One line of ``watch``."""
    if as_json:
        print_json(event)
        return
    data = event.data if isinstance(event.data, dict) else {}
    subject, site = data.get("subject", ""), data.get("site") or ""
    console.print(
        f"{event.id:>8} {data.get('time', '')}  {_short(event.event)}  {subject}  "
        f"{site if site != subject else ''}  {data.get('reason', '')}",
        markup=False,
        highlight=False,
    )


def wait_for(client: Client, ids: Iterable[str], *, as_json: bool) -> bool:
    """Poll until every job ended; True when all succeeded. A gateway that is away is asked again for a while.

    Raises:
        Unreachable, ApiError: refused, or away for longer than ``WAIT_PATIENCE_S``.
    """
    waiting, succeeded, away_since_s = list(ids), True, None
    while waiting:
        try:
            for job_id in tuple(waiting):
                job = client.job(job_id)
                away_since_s = None
                if job.state in TERMINAL:
                    waiting.remove(job_id)
                    succeeded = succeeded and job.state == "succeeded"
                    with though_unread():
                        _show_end(job, as_json=as_json)
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in PASSING:
                raise
            if away_since_s is None:
                away_since_s = monotonic_s()
                errors.print(f"{error}; the jobs go on, asking again", style="yellow", markup=False)
            elif monotonic_s() - away_since_s > WAIT_PATIENCE_S:
                raise
        if waiting:
            time.sleep(WAIT_POLL_S)
    return succeeded


def _show_end(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json({"id": job.id, "state": job.state, "reason": job.reason})
    else:
        console.print(Text(f"{job.id} ").append_text(state(job.state)).append(f" {job.reason}"))


def open_bus(bootstrap_servers: str) -> KafkaBus:
    """A bus that has answered.

    Raises:
        BrokerUnreachable: no answer.
    """
    _knock(bootstrap_servers)
    bus = KafkaBus(bootstrap_servers, client_name="solyx-cli")
    try:
        bus.partitions_of("jobs")
    except Transient as error:
        msg = f"no answer from Kafka at {bootstrap_servers}: {error}"
        raise BrokerUnreachable(msg) from error
    return bus


def _knock(bootstrap_servers: str) -> None:
    """Connect to one of the servers first: librdkafka would try for 20 s, with a line of log for each attempt."""
    problem = "write host:port"
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal():
            continue
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
        except OSError as error:
            problem = str(error)
        else:
            return
    msg = f"no answer from Kafka at {bootstrap_servers}: {problem}"
    raise BrokerUnreachable(msg)


def read_topic(bus: KafkaBus, topic: str, *, follow: bool) -> Iterable[Received]:
    """Records up to the end of the topic, or for ever."""
    tail = bus.tail([topic])
    try:
        while follow or not tail.caught_up():
            yield from tail.read(max_records=500, timeout_s=READ_TIMEOUT_S)
    finally:
        tail.close()


def show_topic(bootstrap_servers: str, topic: str, *, follow: bool, limit: int, as_json: bool) -> None:
    """Print a topic's events."""
    if topic not in BY_NAME:
        errors.print(f"no topic {topic!r}; there are {', '.join(sorted(BY_NAME))}", style="red")
        raise typer.Exit(2)
    records = read_topic(open_bus(bootstrap_servers), topic, follow=follow)
    for received in itertools.islice(records, limit or None):
        _show_record(received, as_json=as_json)


def _show_record(received: Received, *, as_json: bool) -> None:
    place = f"{received.partition}/{received.offset}"
    if received.value is None:
        if as_json:
            print_json({"partition": received.partition, "offset": received.offset, "key": received.key, "data": None})
        else:
            console.print(f"{place:>10} {received.key}  (tombstone)", markup=False, highlight=False)
        return
    try:
        envelope = decode(received.value, received.headers)
    except Poison as error:
        envelope, problem = None, str(error)
    else:
        problem = ""
    if as_json:
        print_json(
            {
                "partition": received.partition,
                "offset": received.offset,
                "key": received.key,
                "id": envelope.id if envelope else None,
                "type": type(envelope.event).TYPE if envelope else None,
                "time": envelope.time if envelope else None,
                "trace_id": trace_id_of(envelope.traceparent) if envelope else "",
                "data": envelope.event if envelope else received.value.decode(errors="replace"),
                "error": problem,
            }
        )
        return
    if envelope is None:
        console.print(Text(f"{place:>10} {received.key}  ").append(problem, style="red"))
        return
    reason = getattr(envelope.event, "reason", "") or getattr(envelope.event, "status", "")
    console.print(
        f"{place:>10} {moment(envelope.time)}  {_short(type(envelope.event).TYPE)}  {received.key}  {reason}",
        markup=False,
        highlight=False,
    )
