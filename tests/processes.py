"""Whether a process has ended, for tests that look for orphans."""

import time
from pathlib import Path


def has_ended(pid: int) -> bool:
    """Gone, or a zombie that only waits for its adoptive parent to look: in a container that may never happen."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def ends(pid: int, within_s: float = 60.0) -> bool:
    """Wait for its end."""
    deadline = time.monotonic() + within_s
    while not has_ended(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
