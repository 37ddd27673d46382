"""What the report reads: figures and tables of any revision, complete or damaged."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from damage import DAMAGES, Damage
from hypothesis import example, given
from hypothesis import strategies as st

from pttfaces import files
from pttfaces.errors import DataError
from pttfaces.report import data
from pttfaces.report.revisions import Revision

FIGURES = {path.stem: path.read_bytes() for path in Path("metrics").glob("*.json")}
EPOCHS = Path("metrics/plots/epochs.csv").read_bytes()
PARAMS = Path("presets/demo.yaml").read_bytes()


@given(st.sampled_from(sorted(FIGURES)), DAMAGES)
def test_funnel_of_damaged_metrics_that_read_json_accepts_raises_nothing(
    tmp_path_factory: pytest.TempPathFactory, stage: str, damage: Damage
) -> None:
    """The file of metrics that it refuses is named."""
    path = tmp_path_factory.mktemp("metrics") / f"{stage}.json"
    path.write_bytes(damage.of(FIGURES[stage]))
    figures = {name: json.loads(content) for name, content in FIGURES.items()}
    try:
        figures[stage] = files.read_json(path)
    except DataError as error:
        assert f"{stage}.json" in str(error)  # noqa: PT017
        return
    data.funnel(figures)


@given(DAMAGES)
@example(Damage(0.5, EPOCHS[len(EPOCHS) // 2] ^ ord("\r")))
@example(Damage(0.0625, 1))  # a header with a name less than its rows
def test_curves_of_a_damaged_table_have_at_most_its_lines(damage: Damage) -> None:
    rows = data.curves(damage.of(EPOCHS).decode(errors="replace"))
    assert len(rows) <= EPOCHS.count(b"\n") + 1


@given(DAMAGES)
def test_settings_of_damaged_parameters_raise_nothing(damage: Damage) -> None:
    def read(path: str) -> str:
        return damage.of(PARAMS).decode(errors="replace")

    revision: Any = SimpleNamespace(read=read)
    assert isinstance(data.settings(cast(Revision, revision)), dict)
