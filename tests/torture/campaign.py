"""Lines that are disturbed at random moments, and have to come to the same end as one that is not.

    PYTHONPATH=src:tests python -m torture.campaign --lines 60 --disturbances 5 --seed 1

Every kind of disturbance meets every stage that it can meet, as often as the number of lines
allows; the table at the end says how often, with the seed of each line.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repository import STAGES
from torture import line as lines
from torture.disturbances import KINDS, Scene, can_fill_a_disk, small_disk
from torture.funnel import check_funnel
from torture.line import SETTINGS, Line
from torture.moody_site import MoodySite, moody_site

from pttfaces.demo.board import make_board

_DISK_MIB = 600


@dataclass(frozen=True)
class Disturbance:
    """One kind on one stage."""

    kind: str
    stage: str


@dataclass
class Undisturbed:
    """What a line is without any disturbance, and how many seconds each stage takes."""

    digests: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def kinds_here() -> dict[str, list[str]]:
    """Kinds that this machine's user can cause, with the stages that they can meet."""
    return {
        kind: stages
        for kind, (_, stages) in KINDS.items()
        if kind != "full disk" or can_fill_a_disk()
    }


def deal(count: int, each: int, seed: int) -> list[list[Disturbance]]:
    """`count` lines of `each` disturbances, no stage twice in a line, in the line's order.

    All pairs of kind and stage come in turn, in random order.
    """
    chance = random.Random(seed)
    pairs = [Disturbance(kind, stage) for kind, stages in kinds_here().items() for stage in stages]
    pile: list[Disturbance] = []
    dealt = []
    for _ in range(count):
        hand: dict[str, Disturbance] = {}
        while len(hand) < min(each, len(STAGES)):
            fitting = [card for card in pile if card.stage not in hand]
            if not fitting:
                pile += chance.sample(pairs, len(pairs))
                continue
            hand[fitting[0].stage] = fitting[0]
            pile.remove(fitting[0])
        dealt.append(sorted(hand.values(), key=lambda card: STAGES.index(card.stage)))
    return dealt


def measure(place: Path, site: MoodySite, stages: list[str] = STAGES) -> Undisturbed:
    """Runs an undisturbed line, stage by stage."""
    line, found = Line(place, site.port, stages), Undisturbed()
    for stage in stages:
        began = time.monotonic()
        line.repro(stage)
        found.seconds[stage] = time.monotonic() - began
    found.digests = lines.digests(line)
    check_funnel(line.repository)
    lines.remove(line)
    return found


def suffer(
    place: Path, site: MoodySite, known: Undisturbed, hand: list[Disturbance], seed: int
) -> None:
    """One line with its disturbances; AssertionError where it does not come to the same end."""
    chance = random.Random(seed)
    with small_disk(place, _DISK_MIB):
        line = Line(place, site.port, list(known.seconds))
        for card in hand:
            line.before(card.stage)
            print(f"  {card.stage}: {card.kind}", flush=True)
            disturb, _ = KINDS[card.kind]
            disturb(Scene(line, card.stage, site, chance, known.seconds[card.stage]))
        line.repro()
        check(line, known, hand)
        lines.remove(line)


def check(line: Line, known: Undisturbed, hand: list[Disturbance]) -> None:
    """That the line is what an undisturbed one is, and left nothing behind."""
    check_funnel(line.repository)
    found = lines.digests(line)
    differing = {k for k in found | known.digests if found.get(k) != known.digests.get(k)}
    if any(card.kind.startswith("site ") and card.stage == "download" for card in hand):
        differing.discard("ledger.csv")  # its attempts tell of it; the rest is compared apart
    assert not differing, f"not as undisturbed: {sorted(differing)[:10]}"
    assert not lines.left_overs(line), lines.left_overs(line)
    runs = lines.history(line)
    lost = {"store missing", "store corrupt"} & {card.kind for card in hand}
    for stage in {"train", "evaluate"}.intersection(line.stages):
        counts = runs.get(stage, Counter())
        assert counts.get("FINISHED", 0) == 1 or lost, f"runs of {stage}: {counts}"
        assert not counts.get("RUNNING", 0), f"runs of {stage} left open: {counts}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Disturbs lines and sees them mend.")
    parser.add_argument("--lines", type=int, default=60)
    parser.add_argument("--disturbances", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first line to run")
    parser.add_argument("--before", type=int, help="number of the line to stop at")
    parser.add_argument("--kind", help="only this kind, once on each of its stages")
    options = parser.parse_args()
    hands = deal(options.lines, options.disturbances, options.seed)
    if options.kind:
        hands = [[Disturbance(options.kind, stage)] for stage in KINDS[options.kind][1]]
    chosen = list(enumerate(hands))[options.first : options.before]
    met: dict[Disturbance, list[int]] = defaultdict(list)
    failed = 0
    world = make_board(1, int(str(SETTINGS["demo.articles"])), "Beauty", 2024)
    with tempfile.TemporaryDirectory() as scratch, moody_site(world) as site:
        known = measure(Path(scratch) / "undisturbed", site)
        print("undisturbed: " + ", ".join(f"{k} {v:.1f} s" for k, v in known.seconds.items()))
        for number, hand in chosen:
            seed = options.seed * 1000 + number
            print(f"line {number}, seed {seed}", flush=True)
            try:
                suffer(Path(scratch) / str(number), site, known, hand, seed)
            except Exception:  # whatever it is, the other lines go on
                failed += 1
                print(f"  FAILED: {traceback.format_exc()}", flush=True)
            for card in hand:
                met[card].append(seed)
    print("\n| stage | kind | seeds |\n| --- | --- | --- |")
    for card in sorted(met, key=lambda card: (STAGES.index(card.stage), card.kind)):
        print(f"| {card.stage} | {card.kind} | {', '.join(map(str, met[card]))} |")
    print(f"\n{len(chosen)} lines, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
