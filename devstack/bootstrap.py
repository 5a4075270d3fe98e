"""Before everything: turns a bare Python into `.venv` with exactly what the lock names. Standard library only.

`requirements/run.lock` and `dev.lock` (a superset) hold versions and hashes; pip finds the packages through whatever index
the machine is configured with. A stamp says which locks are installed; a changed lock is installed over the old one.
"""

import fcntl
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
_VENV = ROOT / ".venv"
_STAMP = _VENV / ".solyx-locks.json"
_CONSOLE_SCRIPT = """#!{python}
import sys
from solyx.cli import main
sys.exit(main())
"""
# What pip says → what it means, what to do. The first that matches is told.
_FAILURES = (
    (
        r"No space left on device|Errno 28",
        "the disk is full",
        "free about 2 GB where the checkout and the temporary directory are, and start again",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        "a package differs from the one that Solyx was tested with",
        "check the package index that this machine is configured with; nothing was installed",
    ),
    (
        r"NewConnectionError|name resolution|Network is unreachable|Connection refused|timed out|ProxyError|from versions: none",
        "no package index answers",
        "the first start needs the network (or a configured pip index); connect and start again",
    ),
    (
        r"Permission denied|Read-only file system",
        "the checkout cannot be written to",
        "make it writable for this user and start again",
    ),
)


@dataclass(frozen=True, kw_only=True)
class VenvPython:
    path: Path

    def exec_module(self, module: str, arguments: list[str]) -> NoReturn:
        os.chdir(ROOT)
        os.execv(self.path, [str(self.path), "-m", module, *arguments])  # noqa: S606 - no shell is wanted


def python_with(lock: str) -> VenvPython:
    """The virtual environment's Python, after installing `requirements/<lock>.lock` when it is not there yet."""
    try:
        if not _is_installed(lock):
            _install_once(lock)
    except OSError as error:
        if error.errno == 28:
            _fail("the disk is full", _FAILURES[0][2])
        _fail(f"{error.filename or ROOT}: {error.strerror or error}", "make the checkout writable for this user")
    except KeyboardInterrupt:
        _fail("interrupted", "start again, the installation goes on where it was")
    return VenvPython(path=_venv_python())


def _venv_python() -> Path:
    return _VENV / "bin" / "python"


def _digest(lock: str) -> str:
    return hashlib.sha256((ROOT / "requirements" / f"{lock}.lock").read_bytes()).hexdigest()


def _is_installed(lock: str) -> bool:
    try:
        stamp = json.loads(_STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return False
    return stamp.get(lock) == _digest(lock) and stamp.get("root") == str(ROOT) and _venv_python().exists()


def _install_once(lock: str) -> None:
    state = ROOT / ".solyx"
    state.mkdir(exist_ok=True)
    with (state / "install.lock").open("w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another installation is under way, waiting for it")
            fcntl.flock(guard, fcntl.LOCK_EX)
        if not _is_installed(lock):
            _make_venv()
            _pip_install(ROOT / "requirements" / f"{lock}.lock")
            _put_checkout_on_path()
            locks = ("dev", "run") if lock == "dev" else ("run",)
            _STAMP.write_text(json.dumps({"root": str(ROOT)} | {name: _digest(name) for name in locks}))


def _make_venv() -> None:
    if _venv_python().exists():
        return
    _say("making .venv")
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(_VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stdout + done.stderr
        if "ensurepip" in said:
            _fail("this Python cannot make virtual environments", "install its venv package (Debian: python3-venv)")
        _explain(said)


def _pip_install(lock: Path) -> None:
    total = len(re.findall(r"^\S+==", lock.read_text(), flags=re.MULTILINE))
    _say(f"installing {total} packages from {lock.name} (once; a minute or two)")
    pip = [
        str(_venv_python()),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar=off",
    ]
    locked = ["--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(lock)]
    said: list[str] = []
    with subprocess.Popen([*pip, *locked], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        seen = 0
        for line in process.stdout or ():
            said.append(line)
            if line.startswith(("Collecting ", "Requirement already satisfied")):
                seen += 1
                _progress(seen, total, "fetched")
            elif line.startswith("Installing collected"):
                _progress(seen, total, "fetched, installing")
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if process.returncode != 0:
        _explain("".join(said))


def _put_checkout_on_path() -> None:
    """The run uses the checkout itself: no build step, and a new package is found without another installation."""
    site = next(_VENV.glob("lib/python3*/site-packages"))
    (site / "solyx.pth").write_text(f"{ROOT}\n")
    script = _VENV / "bin" / "solyx"
    script.write_text(_CONSOLE_SCRIPT.format(python=_venv_python()))
    script.chmod(0o755)


def _progress(seen: int, total: int, what: str) -> None:
    if sys.stderr.isatty():
        print(f"\rsolyx: {seen}/{total} {what}   ", end="", file=sys.stderr, flush=True)
    elif seen % 40 == 0 or "installing" in what:
        _say(f"{seen}/{total} {what}")


def _explain(said: str) -> NoReturn:
    for pattern, message, cure in _FAILURES:
        if re.search(pattern, said):
            _fail(message, cure)
    errors = [line for line in said.splitlines() if line.startswith(("ERROR", "error"))] or said.splitlines()[-1:]
    _fail(f"the installation failed ({' '.join(errors)[:300]})", "start again; if it stays, report it")


def _say(text: str) -> None:
    print(f"solyx: {text}", file=sys.stderr, flush=True)


def _fail(message: str, cure: str) -> NoReturn:
    _say(f"{message}: {cure}")
    sys.exit(1)
