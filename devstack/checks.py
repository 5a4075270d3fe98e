"""Behind `./test`: runs the kinds of check one after the other, all of them even when one fails, and sums up.

    ./test                      every kind, in the order below
    ./test KIND…                some kinds
    ./test KIND… -- ARGUMENTS   ARGUMENTS go to pytest, e.g. ./test unit -- -k placement -x

A kind that finds nothing to check has failed. The exit status is 0 only when everything passed.
"""

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack.bootstrap import ROOT

_BIN = Path(sys.executable).parent
_REPORTS = ROOT / ".solyx" / "test"
_NOTHING_COLLECTED = 5  # pytest's exit status
_MOST_WORKERS = 4  # each worker of a parallel kind may start a broker and a database of its own


@dataclass(frozen=True, kw_only=True)
class Outcome:
    kind: str
    passed: int
    failed: int
    skipped: int = 0
    note: str = ""
    seconds: float = 0.0


_TOOLS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lint": (("ruff", "check"), ("ruff", "format", "--check")),
    "types": (("basedpyright",),),
    "imports": (("lint-imports", "--no-logo"),),
}
_PYTEST: dict[str, str] = {
    "unit": "one module at a time, no process and no network",
    "property": "laws that hold for generated inputs",
    "contract": "the generated schemas, and each service's API against its own description",
    "integration": "against a real broker and a real database",
    "e2e": "the whole system, from a submitted job to an applied decision",
    "chaos": "the whole system while parts of it are killed",
}
_PARALLEL = {"property", "integration"}
_ABOUT = {"lint": "ruff: rules and format", "types": "pyright, strict", "imports": "the architecture, as import rules"}
KINDS = (*_TOOLS, *_PYTEST)


def main(arguments: Sequence[str]) -> int:
    kinds, extra = list(arguments), list[str]()
    if "--" in kinds:
        at = kinds.index("--")
        kinds, extra = kinds[:at], kinds[at + 1 :]
    if {"-h", "--help"} & set(kinds):
        print(f"{__doc__ or ''}\nKinds:")
        for kind in KINDS:
            print(f"  {kind:12} {(_ABOUT | _PYTEST)[kind]}")
        return 0
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        print(f"./test: no kind named {', '.join(unknown)}; the kinds are {', '.join(KINDS)}", file=sys.stderr)
        return 2
    _REPORTS.mkdir(parents=True, exist_ok=True)
    outcomes = [_run(kind, extra) for kind in KINDS if not kinds or kind in kinds]
    return _sum_up(outcomes)


def _run(kind: str, extra: Sequence[str]) -> Outcome:
    print(f"\n== {kind}: {(_ABOUT | _PYTEST)[kind]}", flush=True)
    begin = time.monotonic()
    outcome = _run_tools(kind) if kind in _TOOLS else _run_pytest(kind, extra)
    return Outcome(
        kind=kind,
        passed=outcome.passed,
        failed=outcome.failed,
        skipped=outcome.skipped,
        note=outcome.note,
        seconds=time.monotonic() - begin,
    )


def _run_tools(kind: str) -> Outcome:
    statuses = [_call([str(_BIN / command[0]), *command[1:]]) for command in _TOOLS[kind]]
    failed = sum(status != 0 for status in statuses)
    return Outcome(kind=kind, passed=len(statuses) - failed, failed=failed)


def _run_pytest(kind: str, extra: Sequence[str]) -> Outcome:
    folder = ROOT / "tests" / kind
    if not folder.is_dir():
        return Outcome(kind=kind, passed=0, failed=1, note=f"tests/{kind} does not exist")
    report = _REPORTS / f"{kind}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"tests/{kind}", "-q", f"--junitxml={report}"]
    if kind in _PARALLEL:
        command += ["-n", str(min(_MOST_WORKERS, os.cpu_count() or 1)), "--dist", "loadfile"]
    status = _call([*command, *extra])
    if status == _NOTHING_COLLECTED:
        return Outcome(kind=kind, passed=0, failed=1, note="no tests were collected")
    if not report.exists():
        return Outcome(kind=kind, passed=0, failed=1, note=f"pytest ended with status {status} and no report")
    # The report was written by our own pytest a moment ago.
    suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314
    tests = failed = skipped = 0
    for suite in suites:
        tests += int(suite.get("tests", 0))
        failed += int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped += int(suite.get("skipped", 0))
    if status != 0 and failed == 0:
        return Outcome(kind=kind, passed=0, failed=1, note=f"pytest ended with status {status}")
    return Outcome(kind=kind, passed=tests - failed - skipped, failed=failed, skipped=skipped)


def _call(command: Sequence[str]) -> int:
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _sum_up(outcomes: Sequence[Outcome]) -> int:
    print("\n== summary")
    for outcome in outcomes:
        skipped = f", {outcome.skipped} skipped" if outcome.skipped else ""
        note = f"  ({outcome.note})" if outcome.note else ""
        counts = f"{outcome.passed} passed, {outcome.failed} failed{skipped}"
        verdict = "FAILED" if outcome.failed else "ok"
        print(f"  {outcome.kind:12} {verdict:7} {counts} in {outcome.seconds:.1f} s{note}")
    failed = sum(outcome.failed for outcome in outcomes)
    print(f"{sum(outcome.passed for outcome in outcomes)} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
