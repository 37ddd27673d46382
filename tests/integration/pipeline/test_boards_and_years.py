"""Several boards and years in one data set, through the whole line, as people run them.

Each step runs in the folder that the one before has left.
"""

import re

import pandas as pd
import pytest
from repository import SMALL, STAGES, Repository, make_repository, ran
from torture.funnel import check_funnel

from pttfaces import tables

pytestmark = pytest.mark.timeout(1200)

TABLES = ("articles.jsonl", "links.jsonl", "ledger.csv", "detections.csv", "crops.csv")
YEARS = {"2022", "2023", "2024"}


def lines(repository: Repository) -> dict[str, list[str]]:
    """The lines of each table, without curate's: which copy stays depends on all crops."""
    paths = {name: repository.path / "data" / name for name in TABLES}
    return {name: path.read_text(encoding="utf-8").splitlines() for name, path in paths.items()}


def dataset(repository: Repository) -> pd.DataFrame:
    return tables.read_csv(repository.path / "data/dataset.csv")


def kept(repository: Repository) -> set[tuple[str, str]]:
    """The boards and years of the data set's crops."""
    rows = dataset(repository)
    return set(zip(rows["board"], rows["date"].str[:4], strict=True))


def requested(output: str) -> int:
    """How many addresses download says that it has asked for."""
    found = re.search(r"; (\d+) URLs? requested in this run", output)
    return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The data of one board and year, committed."""
    made = make_repository(tmp_path_factory.mktemp("line"), SMALL)
    made.ok("dvc", "repro", "curate")
    made.commit("2024")
    return made


def test_dvc_exp_run_of_other_years_and_boards_adds_to_the_tables_and_takes_away(
    line: Repository,
) -> None:
    """From one year to three, back, to a second board, and what is forgotten there stays out."""
    one = lines(line)
    assert kept(line) == {("Beauty", "2024")}

    said = line.ok("dvc", "exp", "run", "--name", "three", "-S", "board.year=[2022,2024]")
    assert ran(said) == STAGES
    assert "crawl: 12 of 120 rows of Beauty kept, 2022-01-01 to 2024-12-31." in said
    three = lines(line)
    assert all(set(one[name]) <= set(three[name]) for name in TABLES)
    new = len(three["links.jsonl"]) - len(one["links.jsonl"])
    assert requested(said) <= new + line.metrics("download")["status"]["not_an_image"]
    assert kept(line) == {("Beauty", year) for year in YEARS}
    check_funnel(line)

    said = line.ok("dvc", "exp", "run", "--name", "one", "-S", "board.year=2024", "curate")
    assert not {"crawl", "links", "detect", "crop", "curate"} & set(ran(said))
    assert lines(line) == one

    boards = ("-S", "board.name=[Handsome,Beauty]", "-S", "board.year=[2022,2024]")
    line.ok("dvc", "exp", "run", "--name", "boards", *boards, "curate")
    both = lines(line)
    assert all(set(three[name]) <= set(both[name]) for name in TABLES)
    assert kept(line) == {(name, year) for name in ("Beauty", "Handsome") for year in YEARS}
    check_funnel(line)
    assert line.metrics("crawl")["kept_by_year"] == {
        name: dict.fromkeys(sorted(YEARS), 4) for name in ("Handsome", "Beauty")
    }
    card = (line.path / "data/dataset/README.md").read_text(encoding="utf-8")
    hosts = (line.path / "data/hosts.csv").read_text(encoding="utf-8")
    assert "Handsome" not in card + hosts

    row = dataset(line).query("board == 'Handsome' and date < '2023'").iloc[0]
    assert f" Handsome {row['date']} " in line.ok("pttfaces", "trace", row["crop"])
    line.ok("pttfaces", "forget", "--author", row["author"], "--purge")
    line.ok("dvc", "repro", "curate")
    assert row["author"] not in "".join(lines(line)["articles.jsonl"])
    assert row["crop"] not in set(dataset(line)["crop"])
    line.ok("dvc", "exp", "run", "-S", "board.name=Beauty", "curate")
    assert lines(line)["articles.jsonl"] == three["articles.jsonl"]
