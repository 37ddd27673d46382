"""The short form: up to train, with a disturbance in three stages (`make torture` is the long)."""

import os
import random
from pathlib import Path

import pytest
from repository import STAGES
from torture import campaign
from torture.campaign import Disturbance
from torture.line import SETTINGS
from torture.moody_site import moody_site

from pttfaces.demo.board import make_board

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes"),
]

SEED = random.SystemRandom().randrange(10**6)
HAND = [
    Disturbance("SIGKILL to the stage", "download"),
    Disturbance("out flipped", "crop"),
    Disturbance("SIGKILL to all", "train"),
]


def test_a_line_that_is_disturbed_comes_to_the_same_end(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    articles = int(str(SETTINGS["demo.articles"]))
    with moody_site(make_board(1, articles, "Beauty", 2024)) as site:
        known = campaign.measure(tmp_path / "undisturbed", site, STAGES[:7])
        campaign.suffer(tmp_path / "disturbed", site, known, HAND, SEED)


def test_the_deal_gives_every_kind_to_every_stage_and_no_stage_twice_to_a_line() -> None:
    pairs = {
        Disturbance(k, stage) for k, stages in campaign.kinds_here().items() for stage in stages
    }
    hands = campaign.deal(60, 5, seed=1)
    assert [len({card.stage for card in hand}) for hand in hands] == [5] * 60
    dealt = [card for hand in hands for card in hand]
    assert all(dealt.count(pair) >= 2 for pair in pairs)
