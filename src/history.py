"""What was tried, and the way between MLflow's runs and DVC's states:

python src/history.py             every run: trainings, below each its evaluations
python src/history.py NAME        a run (some first digits of its id), an experiment or a commit:
                                  what belongs to it and the commands that bring it back
"""

import argparse
import sys
from collections.abc import Iterable

from pttfaces import cli
from pttfaces.errors import DataError
from pttfaces.history import states, words
from pttfaces.text import printable


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="a run, an experiment or a commit")
    name = parser.parse_args().name
    from pttfaces import tracking  # takes seconds

    if name is None:
        say(words.table(tracking.recorded()))
        return
    known = states.all_states()
    state = states.named(name, known)
    try:
        runs = tracking.recorded()
    except DataError as error:
        if not state:
            raise
        print(printable(f"warning: {error}"), file=sys.stderr)
        runs = []
    if state:
        say(words.of_state(state, runs))
        return
    fits = [run for run in runs if run.info.run_id.startswith(name)] if len(name) >= 4 else []
    if len(fits) != 1:
        what = f"the first digits of {len(fits)} runs" if fits else "no run, experiment or commit"
        raise DataError(f"{name} is {what}; `python src/history.py` lists the runs.")
    say(words.of_run(fits[0], known))


def say(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))  # a shared store has others' runs, with names of their choice


if __name__ == "__main__":
    cli.run(main)
