"""params.yaml: every mistake is one sentence with the key, its value and what is expected."""

import contextlib
import copy
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from damage import DAMAGES, Damage
from dvc_data.hashfile.meta import Meta
from hypothesis import given
from ruamel.yaml import YAML

from pttfaces import config
from pttfaces.errors import ParamsError

PRESETS = sorted(Path("presets").glob("*.yaml"))
DEMO = Path("presets/demo.yaml")


@pytest.fixture
def values() -> dict[str, Any]:
    return copy.deepcopy(config.read("presets/demo.yaml"))


def put(values: dict[Any, Any], key: Any, value: Any) -> None:
    *groups, last = key.split(".") if isinstance(key, str) else [key]
    for group in groups:
        values = values[group]
    values[last] = value


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_load_of_every_preset_raises_nothing(path: Path) -> None:
    assert config.load(path).image_size == 64


def test_stage_depends_on_no_key_that_the_run_cache_ignores() -> None:
    """In a group of parameters, it ignores keys that are named like properties of files."""
    stages = YAML(typ="safe").load(Path("dvc.yaml"))["stages"]
    known = config.load(DEMO).flat()
    named = {key for stage in stages.values() for key in stage.get("params", [])}
    blind = {Meta.PARAM_SIZE, Meta.PARAM_NFILES}
    unseen = [
        key
        for key in known
        for group in named
        if key.startswith(f"{group}.") and key.rpartition(".")[2] in blind
    ]
    assert unseen == []


def test_presets_are_demo_seed_and_best() -> None:
    assert {path.stem for path in PRESETS} == {"demo", "photos", "seed", "best"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("infer_steps", "abc", "infer_steps is 'abc'; expected an integer from 1 to 10000"),
        ("infer_steps", 20.5, "infer_steps is 20.5; expected an integer"),
        ("infer_steps", True, "infer_steps is True; expected an integer"),
        ("infer_steps", 0, "infer_steps is 0; expected an integer from 1"),
        ("infer_steps", 1001, "infer_steps is 1001; expected 1 to train.timesteps, 1000"),
        ("noise_schedule", "cubic", "noise_schedule is 'cubic'; expected one of linear, cosine"),
        ("train.epoch", 3, "train.epoch is not a known key; did you mean train.epochs?"),
        ("colour", "red", "colour is not a known key; docs/parameters.md lists"),
        ("train", 7, "train is 7; Input should be a valid dictionary"),
        ("train.ema", 1.5, "train.ema is 1.5; expected a number > 0 and < 1, or null"),
        ("train.ema", "yes", "train.ema is 'yes'; expected a number > 0 and < 1, or null"),
        ("train.flip", "yes", "train.flip is 'yes'; expected true or false"),
        ("evaluate.weights_sha256", "0123abcd", "or the digest of the file evaluate.weights"),
        ("model.channels", [32, 4], "model.channels.1 is 4; Input should be greater than"),
        ("model.attention", [True, False], "one true or false for each of the 5 model.channels"),
        ("image_size", 60, "image_size is 60; expected a multiple of 16"),
        ("image_size", 512, "image_size is 512; expected at most crop.size, 256"),
        (
            "board.dates",
            ["0230", "1231"],
            "board.dates is '0230'; expected a day of 2024 as MMDD",
        ),
        ("board.dates", ["0301", "0201"], "a first day that is not after the last"),
        ("board.dates", [101, "1231"], "board.dates.0 is 101; Input should be a valid string"),
        (
            "board.year",
            1800,
            "board.year is 1800; expected an integer from 1995 to 2100, or a list",
        ),
        ("board.year", [2024, 2020], "a first year that is not after the last year"),
        ("board.year", [2020], "board.year is [2020]; expected an integer from 1995 to 2100, or a"),
        ("board.year", [2020, "x"], "board.year is [2020, 'x']; expected an integer from 1995"),
        ("board.year", [2020, 2024], None),
        ("board.name", ["Beauty", "Beauty"], "expected each board once"),
        ("board.name", [], "board.name is []; expected a string, or a list of 1 to 100"),
        ("board.name", ["Beauty", "Gossiping"], None),
        ("evaluate.reference", "tain", "evaluate.reference is 'tain'; expected a string: train"),
        (
            "board.base_url",
            "https://[::1",
            "board.base_url is 'https://[::1'; expected a string: scheme",
        ),
        ("board.base_url", "https://www.ptt.test:0", "expected a string: scheme and host"),
        ("board.base_url", "https://www.ptt.test:99999", "expected a string: scheme and host"),
        ("board.base_url", "https://:80", "expected a string: scheme and host"),
        ("board.base_url", "https://www.ptt.test?x", "expected a string: scheme and host"),
        ("board.base_url", "https://www.ptt.test#x", "expected a string: scheme and host"),
        ("board.base_url", "https://www.ptt.test/", "without a trailing slash"),
        ("board.base_url", "http://[::1]:8080", None),
        (
            "board.name",
            "../etc",
            "a list of 1 to 100 values, each a string: name of the board (letters, digits, _ and -",
        ),
        ("board.rate_per_s", 1e-320, "expected a number from 0.001 to 1000"),
        ("board.rate_per_s", 1e-9, "expected a number from 0.001 to 1000"),
        ("download.rate_per_host", 1e-9, "expected a number from 0.001 to 10000"),
        ("download.allow_networks", ["198.18.0.0/15", "fdfe::/64"], None),
        (
            "download.allow_networks",
            ["my proxy"],
            "allow_networks.0 is 'my proxy'; 'my proxy' does",
        ),
        ("download.allow_networks", ["198.18.0.1/15"], "198.18.0.1/15 has host bits set"),
        ("download.allow_networks", "198.18.0.0/15", "in CIDR notation, such as 198.18.0.0/15"),
        ("download.placeholders", ["ab" * 32], None),
        ("download.placeholders", ["AB" * 32], "download.placeholders.0 is 'ABAB"),
        ("board.dates", ["٠١٠١", "1231"], "board.dates.0 is '٠١٠١'; String should match"),
        (1, 2, "params.yaml: 1 is not a known key; docs/parameters.md"),
        (True, 2, "is not a known key; docs/parameters.md"),
        ("12", 2, "params.yaml: 12 is not a known key; docs/parameters.md"),
        ("train.7", 2, "params.yaml: train.7 is not a known key; did you mean train.ema?"),
        ("crop", None, "crop is None; Input should be a valid dictionary"),
        ("curate", [1], "curate is [1]; Input should be a valid dictionary"),
        ("train.prediction", "epsilon", None),
        ("board.dates", ["0229", "0229"], None),
        ("train.learning_rate", 1, None),
    ],
)
def test_check_of_a_value_accepts_it_or_raises_one_line(
    values: dict[Any, Any], key: Any, value: Any, said: str | None
) -> None:
    put(values, key, value)
    if said is None:
        config.check(values)
        return
    with pytest.raises(ParamsError) as caught:
        config.check(values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")
    assert not str(caught.value).endswith("..")


def test_check_of_29_february_in_a_year_without_one_raises_params_error(
    values: dict[str, Any],
) -> None:
    values["board"] |= {"year": 2023, "dates": ["0229", "1231"]}
    with pytest.raises(ParamsError, match=r"board\.dates is '0229'"):
        config.check(values)


def test_check_of_a_missing_key_says_what_to_add(values: dict[str, Any]) -> None:
    del values["train"]["epochs"]
    with pytest.raises(ParamsError, match=r"train\.epochs is missing; expected an integer from 1"):
        config.check(values)


def test_check_of_two_mistakes_raises_two_lines(values: dict[str, Any]) -> None:
    values["seed"], values["generate"]["num_images"] = -1, "many"
    with pytest.raises(ParamsError) as caught:
        config.check(values)
    assert len(str(caught.value).splitlines()) == 2


def test_warnings_of_the_original_s_recipe_name_what_is_wrong_with_it() -> None:
    zero_snr, judge = config.load("presets/seed.yaml").warnings()
    assert "zero_terminal_snr with train.prediction epsilon" in zero_snr
    assert "select_by train_loss" in judge
    assert config.load("presets/demo.yaml").warnings() == []
    assert config.load("presets/best.yaml").warnings() == []


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmsolver++"])
def test_warnings_of_epsilon_with_a_deterministic_sampler_name_the_remedies(
    values: dict[str, Any], sampler: str
) -> None:
    values["train"]["prediction"], values["generate"]["sampler"] = "epsilon", sampler
    found = config.check(values).warnings()
    assert len(found) == (sampler != "ddpm")
    assert all("v_prediction" in warning and "ddpm" in warning for warning in found)


def test_recrop_options_are_those_of_the_first_pass_where_the_second_has_none() -> None:
    seed, demo = (config.load(f"presets/{name}.yaml") for name in ("seed", "demo"))
    detect, crop = seed.recrop_options()
    assert (detect.threshold, seed.detect.threshold) == (0.95, 0.9)
    assert (crop.padding, crop.size, crop.face_factor) == ("constant", 64, 0.7)
    assert (seed.crop.padding, seed.crop.size) == ("replicate", 256)
    detect, crop = demo.recrop_options()
    assert detect == demo.detect
    assert crop == demo.crop.model_copy(update={"size": demo.image_size})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "line 1"),
        ("a: 1\na: 2", "line 2"),
        ("a: !!python/object/apply:os.system ['true']", "not plain YAML"),
        ("", "has no `key: value` lines"),
        ("just words", "has no `key: value` lines"),
        ("seed: 2024-13-01", "month must be in"),
        ("seed: !!int ''", "not plain YAML"),
        ("seed: !!bool x", "not plain YAML"),
        ("seed: " + "9" * 5000, "not plain YAML"),
        ("seed: " + "[" * 1500, "not plain YAML"),
        ("seed: \0", "special characters"),
    ],
)
def test_load_of_a_file_that_is_not_plain_yaml_raises_params_error(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=said):
        config.load(path)


def test_load_of_bytes_that_are_not_utf_8_names_their_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"seed: 1\r\n# caf\xe9\n")
    with pytest.raises(ParamsError, match=r"params\.yaml, line 2 is not plain YAML \(not UTF-8\)"):
        config.load(path)


def test_load_of_a_value_that_would_fill_the_memory_shortens_it(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    lists = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lists += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghijkl")]
    path.write_text("\n".join([*lists, "seed: *l", f"source: {'x' * 100000}"]))
    with pytest.raises(ParamsError) as caught:
        config.load(path)
    assert "seed is [" in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) < 1000


@given(DAMAGES)
def test_load_of_a_damaged_file_raises_at_most_params_error(
    tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(damage.of(DEMO.read_bytes()))
    with contextlib.suppress(ParamsError):
        config.load(path)


def test_read_of_numbers_gives_what_dvc_reads(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text("rate: 1e-4\nday: '0101'\n")
    assert config.read(path) == {"rate": 1e-4, "day": "0101"}


def test_load_of_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"pttfaces preset demo"):
        config.load(tmp_path / "params.yaml")


def test_markdown_table_is_the_one_in_the_documents() -> None:
    """`make docs` writes it."""
    text = Path("docs/parameters.md").read_text(encoding="utf-8")
    assert (
        f"<!-- begin of the table -->\n{config.markdown_table()}<!-- end of the table -->" in text
    )


def test_make_docs_replaces_the_table_and_nothing_else(tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("no make here")
    (tmp_path / "docs").mkdir()
    shutil.copy("Makefile", tmp_path)
    page = Path("docs/parameters.md").read_text(encoding="utf-8")
    old = page.replace("| `seed` |", "| `grain` |")
    (tmp_path / "docs/parameters.md").write_text(old, encoding="utf-8")
    installed = (f"BIN={Path(sys.executable).parent}", "-o", ".venv/installed")
    environment = os.environ | {"PYTHONPATH": str(Path("src").resolve())}
    subprocess.run(["make", *installed, "docs"], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "docs/parameters.md").read_text(encoding="utf-8") == page
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["parameters.md"]
