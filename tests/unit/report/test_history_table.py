"""The history as text."""

from types import SimpleNamespace
from typing import Any

import pytest

from pttfaces.report import history


def shown(**figures: float) -> str:
    """The line of a training with these last figures."""
    info = SimpleNamespace(run_id="1a2b3c4d", status="FINISHED", start_time=0, run_name="train")
    data = SimpleNamespace(tags={"stage": "train"}, params={}, metrics=figures)
    run: Any = SimpleNamespace(info=info, data=data)
    return history.table([run])[1]


@pytest.mark.parametrize(
    ("stage", "name", "what"),
    [
        ("train", "brave-cod: cosine, v_prediction, 25 epochs, seed 0 (ab12cd)", None),
        ("evaluate", "evaluate: 20 steps, ddim, seed 0 (ab12cd)", None),
        ("train", "brave-cod", "train linear, 3 epochs"),  # of version 0.2
        ("evaluate", "20 steps, ddim", "evaluate 20 steps, ddim"),
    ],
)
def test_history_table_tells_runs_apart_by_their_names(
    stage: str, name: str, what: str | None
) -> None:
    params = {"noise_schedule": "linear", "train.epochs": 3}
    info = SimpleNamespace(run_id="1a2b3c4d", status="FINISHED", start_time=0, run_name=name)
    data = SimpleNamespace(tags={"stage": stage}, params=params, metrics={})
    run: Any = SimpleNamespace(info=info, data=data)
    assert history.table([run])[1].endswith(what or f"  {stage} {name.partition(': ')[2]}")


def test_history_table_of_a_training_shows_the_losses_of_the_kept_model() -> None:
    last = {"train_loss": 0.1, "val_loss": 0.4, "best_epoch": 3}
    assert "train_loss 0.1, val_loss 0.4, best_epoch 3" in shown(**last)  # an older run
    line = shown(**last, best_train_loss=0.2, best_val_loss=0.3)
    assert "best_train_loss 0.2, best_val_loss 0.3, best_epoch 3" in line
    assert "0.4" not in line
