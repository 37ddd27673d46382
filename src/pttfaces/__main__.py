"""Runs the command `pttfaces` for `python -m pttfaces`."""

from pttfaces.cli import main

main()
