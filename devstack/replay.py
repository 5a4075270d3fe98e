"""One start of `./run`, from the options to the report: stack up, clock going, jobs in, table out, everything down."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec
from rich.console import Console
from rich.live import Live

from devstack.errors import DevstackError
from devstack.options import Options
from devstack.report import Snapshot, make_report
from devstack.stack import Plan, Stack
from devstack.state import StateDirectory, replace_file
from devstack.submit import Submitter
from devstack.view import line, saving, screen
from devstack.watch import Watcher
from devstack.world import World, choose_world
from solyx.bus.kafka import KafkaBus

__all__ = ["replay"]

_REFRESH_S = 0.5
_LINE_S = 5.0
_SAVE_S = 1.0
_MARGIN_S = 2 * _SAVE_S  # what a crash may have let pass since the last save
_DRAIN_S = 10.0  # how long an accepted job may take into the log before it counts as lost
_CATCH_UP_S = 60.0
_NOTICES = 6


def replay(options: Options, stop: threading.Event) -> None:
    """Until `stop` or the end of `--for`; nothing of it is left running.

    Raises:
        DevstackError: something is to be put right; it says what.
        ScenarioError: the same, in the scenario.
    """
    console = Console(soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    with ExitStack() as exits:
        state = exits.enter_context(StateDirectory(options.state, fresh=options.fresh))
        world = choose_world(state, options.scenario, speed=options.speed, say=say)
        world.claim(state, kafka=options.kafka, database=options.database)
        sites = ", ".join(site.name for site in world.scenario.sites)
        say(f"scenario {world.scenario.name}: {len(world.jobs)} jobs, sites {sites}; starting")
        for stale in (state.clock_file, state.connection):
            stale.unlink(missing_ok=True)
        listeners = [say]

        def tell(text: str) -> None:
            for listener in listeners:
                listener(text)

        stack = Stack(_plan(options, state, world), tell=tell)
        exits.callback(world.save, state)  # after the stack has stopped: until then time passes
        exits.callback(stack.stop)
        exits.callback(state.connection.unlink, missing_ok=True)
        exits.callback(say, "stopping")
        ready_s = stack.start(cancelled=stop)
        if stop.is_set():
            return
        bus = exits.enter_context(KafkaBus(stack.kafka, client_name="devstack"))
        watcher = Watcher(bus, now=world.now)
        exits.callback(watcher.stop)
        listeners[:] = [watcher.tell] if console.is_terminal else [watcher.tell, say]
        watcher.start()
        submitter = Submitter(
            world.jobs,
            start=world.scenario.start,
            now=world.now,
            api=stack.api,
            key=stack.admin_key(),
            journal=state.submissions,
            name=world.name,
        )
        session = _Session(
            options=options,
            state=state,
            world=world,
            stack=stack,
            watcher=watcher,
            submitter=submitter,
            ready_s=ready_s,
            stop=stop,
            say=say,
        )
        session.begin()
        session.show(console)
        session.end()


def _plan(options: Options, state: StateDirectory, world: World) -> Plan:
    return Plan(
        processes=options.processes(),
        environment={
            "SOLYX_STATE_DIR": str(state.services),
            "SOLYX_CLOCK_FILE": str(state.clock_file),
            "SOLYX_CLOCK_START": world.progress.scenario_time.isoformat(),
            "SOLYX_CLOCK_SPEED": repr(options.speed),
            "SOLYX_SCENARIO": str(world.directory),
        },
        directory=state.path,
        logs=state.logs,
        api_port=options.api_port,
        tenants=world.scenario.job_source.tenants,
        home_sites=[site.name for site in world.scenario.sites],
        kafka=options.kafka,
        database=options.database,
    )


@dataclass(kw_only=True)
class _Session:
    """The time between all services ready and the first of them stopped."""

    options: Options
    state: StateDirectory
    world: World
    stack: Stack
    watcher: Watcher
    submitter: Submitter
    ready_s: float
    stop: threading.Event
    say: Callable[[str], None]
    began: float = 0.0

    def begin(self) -> None:
        """Set the clock going and tell where the API is."""
        deadline = time.monotonic() + _CATCH_UP_S
        while not self.watcher.wait_caught_up(_REFRESH_S) and not self.stop.is_set():
            self._check()
            if time.monotonic() > deadline:
                raise DevstackError("Kafka's topics cannot be read", f"see {self.state.path / 'kafka' / 'broker.log'}")
        key = self.stack.admin_key()
        connection = {"url": self.stack.api, "key": key, "kafka_bootstrap_servers": self.stack.kafka}
        replace_file(self.state.connection, json.dumps(connection, indent=2).encode() + b"\n", mode=0o600)
        self.world.begin(self.state.clock_file)
        self.began = time.monotonic()
        self.say(f"all services ready after {self.ready_s:.1f} s")
        self.say(f"API      {self.stack.api}")
        self.say(f"API key  {key}")
        if self.options.submit:
            self.submitter.start()

    def show(self, console: Console) -> None:
        """Until it is time to stop."""
        if console.is_terminal:
            api, key = self.stack.api, self.stack.admin_key()
            with Live(console=console, auto_refresh=False, screen=False, transient=True) as live:
                while self._goes_on(_REFRESH_S):
                    live.update(screen(self.snapshot(), api=api, key=key), refresh=True)
            console.print(screen(self.snapshot(), api=api, key=key))
            return
        told = self.began
        while self._goes_on(_REFRESH_S):
            if time.monotonic() - told >= _LINE_S:
                told += _LINE_S
                self.say(line(self.snapshot()))

    def _goes_on(self, pause_s: float) -> bool:
        """Wait a little; save where a crash would go on; False when it is time to stop."""
        if self.options.for_s is not None:
            pause_s = min(pause_s, self.began + self.options.for_s - time.monotonic())
        if pause_s <= 0 or self.stop.wait(pause_s):
            return False
        self.world.save(self.state, margin_s=_MARGIN_S)
        self._check()
        return True

    def _check(self) -> None:
        """Raise what another thread could not."""
        for failure in (self.stack.failure, self.submitter.error, self.watcher.error):
            if failure is not None:
                raise failure

    def end(self) -> None:
        """Stop submitting, let what was accepted reach the log, sum up and write the report."""
        self.submitter.stop()
        deadline = time.monotonic() + _DRAIN_S
        while self._lost() and time.monotonic() < deadline:
            time.sleep(0.05)
        last = self.snapshot()
        own, home = last.books.own, last.books.baseline
        self.say(line(last))
        self.say(
            f"cost {own.cost_eur:.2f} EUR, {saving(own.cost_eur, home.cost_eur)} ({home.cost_eur:.2f} EUR);"
            f" carbon {own.carbon_kg:.1f} kg, {saving(own.carbon_kg, home.carbon_kg)} ({home.carbon_kg:.1f} kg);"
            f" lost jobs {last.lost}"
        )
        if self.options.report is not None:
            content = msgspec.json.format(msgspec.json.encode(make_report(last)), indent=2)
            replace_file(self.options.report, content + b"\n")
            self.say(f"report   {self.options.report}")

    def _lost(self) -> list[str]:
        accepted = list(self.submitter.accepted)
        return self.watcher.ask(lambda ledger: ledger.lost(accepted))

    def snapshot(self) -> Snapshot:
        """Everything now."""
        now, accepted_ms = self.world.now(), dict(self.submitter.accepted_at_ms)
        counts, books, uses, latencies = self.watcher.ask(
            lambda ledger: (dict(ledger.counts), ledger.books(now), ledger.use(now), ledger.latencies_ms(accepted_ms))
        )
        return Snapshot(
            scenario=self.world.scenario.name,
            now=now,
            start=self.world.scenario.start,
            speed=self.world.speed,
            wall_s=time.monotonic() - self.began,
            ready_s=self.ready_s,
            counts=counts,
            total_jobs=len(self.world.jobs),
            accepted=len(self.submitter.accepted),
            lost=len(self._lost()),
            books=books,
            uses=uses,
            latencies_ms=latencies,
            events=self.watcher.events,
            events_per_s=self.watcher.events_per_s(),
            parts=self.stack.parts(),
            peak_mb=self.stack.peak_mb,
            notices=self.watcher.notices(_NOTICES),
            trouble=self.submitter.trouble,
        )
