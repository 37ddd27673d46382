"""Groups of params.yaml for tests: the demo preset's, with changes."""

from functools import cache
from pathlib import Path
from typing import Any

from pttfaces import config

PRESET = Path(__file__).resolve().parents[2] / "presets/demo.yaml"


@cache
def demo() -> config.Params:
    return config.load(PRESET)


def group(name: str, **changes: Any) -> Any:
    """A group such as "train", with some keys changed."""
    return getattr(demo(), name).model_copy(update=changes)


def params(**changes: Any) -> config.Params:
    """All parameters, with groups or top-level keys replaced."""
    return demo().model_copy(update=changes)
