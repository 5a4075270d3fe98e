import pytest

from devstack import bootstrap


@pytest.mark.parametrize(
    ("pip_says", "told", "cure"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full", "free about"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "differs", "package index"),
        ("NewConnectionError('<…>: Failed to establish a new connection')", "no package index answers", "network"),
        ("Temporary failure in name resolution", "no package index answers", "network"),
        ("ERROR: Could not find a version (from versions: none)", "no package index answers", "network"),
        ("PermissionError: [Errno 13] Permission denied: '.venv'", "cannot be written", "writable"),
        ("ERROR: something new", "the installation failed (ERROR: something new)", "start again"),
    ],
)
def test_what_pip_says_becomes_a_message_with_a_cure(
    pip_says: str, told: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        bootstrap._explain(f"Collecting x\n{pip_says}\n")
    shown = capsys.readouterr().err
    assert left.value.code == 1
    assert told in shown
    assert cure in shown
