"""``python -m solyx.cli``: the same as ``solyx`` where nothing was installed."""

from solyx.cli.main import main

if __name__ == "__main__":
    main()
