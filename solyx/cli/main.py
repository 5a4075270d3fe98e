"""``solyx``: submit jobs, see what became of them and why, look at sites, routes, topics and dead letters.

Exit status: 0 done; 1 refused by the server, or the job failed; 2 wrong usage or an unreadable file; 3 no answer from the server
or the broker; 4 not found; 130 interrupted.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from solyx import __version__
from solyx.bus.port import Transient
from solyx.cli import connection as connections
from solyx.cli import deadletters, nodes, views
from solyx.cli import quotas as quota_views
from solyx.cli import usage as usage_views
from solyx.cli.connection import Json, Key, Url, connect
from solyx.cli.output import errors, print_json
from solyx.client import ApiError, Unreachable
from solyx.client.model import TERMINAL
from solyx.command import mute, though_unread
from solyx.jobfile import JobFileError, parse_job

app = typer.Typer(
    name="solyx",
    help="Runs AI and batch work across several sites as one system.",
    epilog="Connects to $SOLYX_URL with $SOLYX_API_KEY, or to the installation that ./run started in this directory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(deadletters.app, name="deadletters")
nodes.add_to(app)

TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
NOT_FOUND = 404


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"solyx {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(  # pyright: ignore[reportUnusedFunction] - typer calls it
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


@app.command()
def submit(
    file: Annotated[
        str, typer.Argument(help="A YAML or JSON file with one job or several documents; - reads standard input.")
    ],
    idempotency_key: Annotated[
        str | None, typer.Option(help="A repeat under the same key returns the same job.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Submit for this tenant (administrators).")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 when a job fails.")] = False,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Submit a job."""
    documents = _documents(file)
    with connect(url, key) as client:
        if len(documents) == 1:
            ids = [client.submit(documents[0], idempotency_key=idempotency_key, tenant=tenant).id]
        else:
            ids = client.submit_many(documents, idempotency_key=idempotency_key, tenant=tenant).ids
        with though_unread():
            if json:
                print_json({"ids": ids})
            else:
                for job_id in ids:
                    typer.echo(job_id)
        if wait and not views.wait_for(client, ids, as_json=json):
            raise typer.Exit(1)


def _documents(file: str) -> list[dict[str, Any]]:
    """The jobs in a file, checked here so that errors come before anything is sent."""
    name = "standard input" if file == "-" else file
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
    except OSError as error:
        errors.print(f"{name}: {error.strerror}", style="red", markup=False)
        raise typer.Exit(2) from error
    except UnicodeDecodeError as error:
        errors.print(f"{name}: is no UTF-8 text: byte {error.start}", style="red", markup=False)
        raise typer.Exit(2) from error
    except yaml.YAMLError as error:
        errors.print(f"{name}: {error}", style="red", markup=False)
        raise typer.Exit(2) from error
    if not documents:
        errors.print(f"{name}: no job in it", style="red")
        raise typer.Exit(2)
    for position, document in enumerate(documents, start=1):
        try:
            parse_job(document)
        except JobFileError as error:
            for problem in error.errors:
                errors.print(f"{name}: document {position}: {problem}", style="red", markup=False)
            raise typer.Exit(2) from error
    return documents


@app.command()
def jobs(  # noqa: PLR0917 - one option each
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; may be repeated.")] = None,
    site: Annotated[str | None, typer.Option(help="Only jobs at this site.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's jobs (administrators).")] = None,
    label: Annotated[list[str] | None, typer.Option(help="name=value; may be repeated.")] = None,
    name: Annotated[str | None, typer.Option(help="Names that begin so.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.", min=1)] = 50,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List jobs, newest first."""
    with connect(url, key) as client:
        found = []
        for job in client.all_jobs(
            state=state or (), site=site, tenant=tenant, label=label or (), name=name, limit=min(limit, 1000)
        ):
            found.append(job)
            if len(found) >= limit:
                break
    views.show_jobs(found, as_json=json)


@app.command()
def job(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show a job and its history: each decision with its reason and figures."""
    with connect(url, key) as client:
        views.show_job(client.job(job_id), as_json=json)


@app.command()
def cancel(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Cancel a job."""
    with connect(url, key) as client:
        answer = client.cancel(job_id)
    if json:
        print_json(answer)
    elif answer.state in TERMINAL:
        typer.echo(f"{job_id} is {answer.state}")
    else:
        typer.echo(f"{job_id}: cancellation requested; it ends when its cluster has stopped it")


@app.command()
def sites(json: Json = False, url: Url = None, key: Key = None) -> None:
    """List sites: nodes, devices, price and carbon now."""
    with connect(url, key) as client:
        views.show_sites(client.sites(), client.energy(), as_json=json)


@app.command()
def routes(json: Json = False, url: Url = None, key: Key = None) -> None:
    """List routes between sites, with their backups."""
    with connect(url, key) as client:
        views.show_routes(client.routes(), as_json=json)


@app.command()
def latencies(json: Json = False, url: Url = None, key: Key = None) -> None:
    """List how far places are from each site, as the network measures it."""
    with connect(url, key) as client:
        views.show_latencies(client.latencies(), as_json=json)


@app.command()
def grid(json: Json = False, url: Url = None, key: Key = None) -> None:
    """List demand-response events of the last week and to come, and what each site delivers."""
    with connect(url, key) as client:
        views.show_grid(client.grid(), as_json=json)


@app.command()
def quotas(
    site: Annotated[str | None, typer.Option(help="Only at this site.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's, and its cohorts' (administrators).")] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show who holds, borrows, lends and waits for what under the quotas of each site."""
    with connect(url, key) as client:
        quota_views.show_quotas(client.quotas(site=site, tenant=tenant), as_json=json)


@app.command()
def usage(  # noqa: PLR0917 - one option each
    by: Annotated[
        list[str] | None,
        typer.Option(help="tenant, site, label:KEY, or one of day, week, month; may be repeated."),
    ] = None,
    since: Annotated[
        datetime | None, typer.Option(formats=TIMES, help="From then on, UTC; default 30 days ago.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(formats=TIMES, help="Until then, UTC; default now.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's (administrators).")] = None,
    site: Annotated[str | None, typer.Option(help="Only at this site.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="name=value; may be repeated.")] = None,
    cursor: Annotated[str | None, typer.Option(help="The next page, as the page before said.")] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what runs took: core and GPU hours, energy, cost and carbon."""
    groups = ["tenant"] if by is None else by
    with connect(url, key) as client:
        report = client.usage(
            by=groups,
            since=since.replace(tzinfo=UTC) if since else None,
            until=until.replace(tzinfo=UTC) if until else None,
            tenant=tenant,
            site=site,
            label=label or (),
            cursor=cursor,
        )
    usage_views.show_usage(report, groups, as_json=json)


@app.command()
def budgets(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's (administrators).")] = None,
    new: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="QUANTITY=LIMIT/WINDOW[/soft]",
            help="Set all budgets of --tenant (administrators), such as gpu_h=500/month or cost_eur=80/30d/soft.",
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Take all budgets of --tenant away.")] = False,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show budgets over time and what is left of them, or set a tenant's."""
    if (new or clear) and (tenant is None or (new and clear)):
        errors.print("--set or --clear needs --tenant, and not both", style="red", markup=False)
        raise typer.Exit(2)
    with connect(url, key) as client:
        if tenant is not None and (new or clear):
            stored = client.set_budgets(tenant, usage_views.parse_budgets(new or ()))
            usage_views.show_set(stored, as_json=json)
        else:
            usage_views.show_budgets(client.budgets(tenant=tenant), as_json=json)


_INPUTS = ("io.solyx.energy.", "io.solyx.feed.")
"""What decisions are made from: so many that they would hide the decisions."""


@app.command()
def watch(
    job_id: Annotated[str | None, typer.Option("--job", metavar="ID", help="Only this job's.")] = None,
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Only this type, such as job.finished.v1; may be repeated.")
    ] = None,
    inputs: Annotated[bool, typer.Option("--inputs", help="Also prices, carbon and the state of feeds.")] = False,
    last_event_id: Annotated[str | None, typer.Option(help="Go on after this event; 0: from the beginning.")] = None,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Follow decisions and outcomes as they happen; Ctrl-C ends."""
    seen = last_event_id
    with connect(url, key) as client:
        try:
            for event in client.events(last_event_id=last_event_id, job=job_id, event_type=event_type or ()):
                if inputs or event_type or not event.event.startswith(_INPUTS):
                    views.show_event(event, as_json=json)
                seen = event.id
        except Unreachable as error:
            again = f"; go on with: solyx watch --last-event-id {seen}" if seen else ""
            msg = f"{error}{again}"
            raise Unreachable(msg) from error


@app.command()
def events(
    topic: Annotated[str, typer.Argument(help="A topic; see docs/topics.md.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more.")] = False,
    limit: Annotated[int, typer.Option(help="Stop after so many; 0: no limit.", min=0)] = 0,
    json: Json = False,
    kafka: Annotated[
        str | None, typer.Option(help="Bootstrap servers; default $SOLYX_KAFKA_BOOTSTRAP_SERVERS.")
    ] = None,
) -> None:
    """Print a topic's events, read from Kafka."""
    found = connections.find(url=None, key=None, kafka=kafka)
    views.show_topic(found.kafka_bootstrap_servers, topic, follow=follow, limit=limit, as_json=json)


def main() -> None:
    """Run the command line; every expected failure is one message and an exit status."""
    try:
        app(prog_name="solyx")
    except SystemExit as end:
        # A reader (`| head`) that has seen enough, also of a help text: typer, and rich for it, end with status 1.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        mute()
        sys.exit(0)
    except ApiError as error:
        errors.print(str(error), style="red", markup=False)
        sys.exit(4 if error.status == NOT_FOUND else 1)
    except (Unreachable, views.BrokerUnreachable, Transient) as error:
        setting = "SOLYX_URL" if isinstance(error, Unreachable) else "SOLYX_KAFKA_BOOTSTRAP_SERVERS"
        errors.print(f"{error}\nis it running? set {setting}, or start one with ./run", style="red", markup=False)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
