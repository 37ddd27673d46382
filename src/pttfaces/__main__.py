"""`python -m pttfaces` is the command `pttfaces`."""

from pttfaces.cli import main

main()
