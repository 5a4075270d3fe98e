"""Where the real data lies: beside the checkout, used in place and never copied."""

from pathlib import Path


def shared_data() -> Path:
    """The directory of the real data.

    Raises:
        FileNotFoundError: it is not there; tests that need it fail and say so.
    """
    directory = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not directory.is_dir():
        msg = f"{directory} is missing: these tests read real traces, which lie beside the checkout in ../shared/data"
        raise FileNotFoundError(msg)
    return directory
