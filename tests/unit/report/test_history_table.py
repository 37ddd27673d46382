"""The history as text."""

from types import SimpleNamespace
from typing import Any

from pttfaces.report import history


def shown(**figures: float) -> str:
    """The line of a training with these last figures."""
    info = SimpleNamespace(run_id="1a2b3c4d", status="FINISHED", start_time=0, run_name="train")
    data = SimpleNamespace(tags={"stage": "train"}, params={}, metrics=figures)
    run: Any = SimpleNamespace(info=info, data=data)
    return history.table([run])[1]


def test_history_table_of_a_training_shows_the_losses_of_the_kept_model() -> None:
    last = {"train_loss": 0.1, "val_loss": 0.4, "best_epoch": 3}
    assert "train_loss 0.1, val_loss 0.4, best_epoch 3" in shown(**last)  # an older run
    line = shown(**last, best_train_loss=0.2, best_val_loss=0.3)
    assert "best_train_loss 0.2, best_val_loss 0.3, best_epoch 3" in line
    assert "0.4" not in line
