"""``solyx`` on the command line."""

from solyx.cli.main import main

__all__ = ["main"]
