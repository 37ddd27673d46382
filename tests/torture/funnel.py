"""The funnel of a line that has run: every row, link, picture, face and crop in one final state.

Read from the tables that the stages left, not from what they say of themselves; then the stages'
figures have to be the sums of the tables.
"""

from collections import Counter
from pathlib import Path

import pandas as pd
from repository import Repository

from pttfaces import files, tables
from pttfaces.board.articles import ARTICLE_STATUSES as READ
from pttfaces.board.listing import ROW_REASONS
from pttfaces.download.result import STATUSES as FETCHED


def check_funnel(repository: Repository) -> None:
    """AssertionError where a thing is in no final state, or in two."""
    data = repository.path / "data"
    _check_board(repository, data)
    pictures = _check_pictures(repository, data)
    _check_faces(repository, data, pictures)


def _check_board(repository: Repository, data: Path) -> None:
    crawl, links = repository.metrics("crawl"), repository.metrics("links")
    articles = files.read_json_lines(data / "articles.jsonl")
    names = [article["id"] for article in articles]
    assert set(crawl["left_out"]) == set(ROW_REASONS)
    assert crawl["rows_seen"] == crawl["kept"] + sum(crawl["left_out"].values())
    assert crawl["kept"] == len(names) == len(set(names))

    read = tables.read_csv(data / "articles_read.csv")
    posted = files.read_json_lines(data / "links.jsonl")
    unread = set(names) - set(read["article"])
    assert len(read) + len(unread) == len(names), "an article is read twice, or is none of the list"
    assert len(unread) <= links["denied"]
    assert set(read["status"]) <= set(READ)
    assert Counter(read["status"]) == +Counter(links["articles"])
    found = Counter(link["article"] for link in posted)
    assert dict(zip(read["article"], read["links"].astype(int), strict=True)) == {
        name: found[name] for name in read["article"]
    }
    for article in found:
        places = [link["position"] for link in posted if link["article"] == article]
        assert places == sorted(set(places)), article
    assert len(posted) == links["links"] == sum(links["places"].values())
    assert sum(links["kinds"].values()) == sum(links["hosts"].values()) == len(posted)
    assert links["unresolved"] == sum(not link["addresses"] for link in posted)


def _check_pictures(repository: Repository, data: Path) -> set[str]:
    download = repository.metrics("download")
    posted = files.read_json_lines(data / "links.jsonl")
    ledger = tables.read_csv(data / "ledger.csv")
    from_links = ledger[ledger["place"] != "inbox"]
    assert list(zip(from_links["article"], from_links["position"], strict=True)) == [
        (link["article"], str(link["position"])) for link in posted
    ]
    assert len(from_links) == download["links"]
    assert len(ledger) == download["links"] + download["inbox"]
    assert set(ledger["status"]) <= set(FETCHED)
    assert Counter(ledger["status"]) == +Counter(download["status"])

    with_file = ledger[ledger["path"] != ""]
    assert set(with_file["status"]) <= {"ok", "duplicate", "truncated"}
    assert not (ledger["status"][ledger["path"] == ""].isin(["ok", "duplicate"])).any()
    firsts = with_file[with_file["status"] != "duplicate"]
    kept = set(with_file["path"])
    assert len(firsts) == len(kept) == download["pictures"], "each picture counts once"
    assert sum(firsts["bytes"].astype(int)) == download["bytes"]
    raw = {path for path in (data / "raw").rglob("*") if path.is_file()}
    assert {path.relative_to(data / "raw").as_posix() for path in raw} == kept
    for path, digest in zip(firsts["path"], firsts["sha256"], strict=True):
        assert files.digest_file(data / "raw" / path) == digest

    hosts = tables.read_csv(data / "hosts.csv")
    assert hosts["links"].astype(int).sum() == len(from_links)
    assert hosts["fetched"].astype(int).sum() == (from_links["path"] != "").sum()
    assert len(hosts) == download["hosts"]
    assert (hosts["fetched"] == "0").sum() == download["hosts_without_images"]

    failed = (data / "failed.txt").read_text(encoding="utf-8").splitlines()
    left = {"", "denied", "unresolved"}
    without = from_links[(from_links["path"] == "") & ~from_links["status"].isin(left)]
    assert failed == list(dict.fromkeys(without["url"]))
    return kept


def _check_faces(repository: Repository, data: Path, pictures: set[str]) -> None:
    detect, crop, curate = (repository.metrics(name) for name in ("detect", "crop", "curate"))
    detections = tables.read_csv(data / "detections.csv")
    assert set(detections["image"]) == pictures
    with_face = detections[detections["reason"] == ""]
    without = detections[detections["reason"] != ""]
    assert without["image"].is_unique
    assert not set(with_face["image"]) & set(without["image"])
    assert not with_face.duplicated(["image", "face"]).any()
    unreadable = without["reason"].str.startswith("cannot be decoded")
    assert detect["pictures"] == len(pictures)
    assert detect["with_face"] == with_face["image"].nunique()
    assert (detect["unreadable"], detect["without_face"]) == (unreadable.sum(), (~unreadable).sum())
    assert detect["faces"] == len(with_face)

    cropped = tables.read_csv(data / "crops.csv")
    assert _pairs(cropped) == _pairs(with_face)
    crops = cropped[cropped["reason"] == ""]
    lying = {path.name for path in (data / "crops").iterdir()}
    assert len(crops) == len(lying) == crop["crops"]
    assert set(crops["crop"]) == lying
    assert crop["crops"] + crop["not_aligned"] == len(with_face) == len(cropped)

    dataset = tables.read_csv(data / "dataset.csv")
    assert sorted(dataset["crop"]) == sorted(lying)
    assert ((dataset["split"] == "") == (dataset["reason"] != "")).all()
    assert set(dataset["split"]) <= {"", "train", "holdout"}
    assert Counter(dataset["reason"][dataset["reason"] != ""]) == +Counter(curate["left_out"])
    assert curate["crops"] == len(lying)
    assert curate["kept"] == sum(dataset["reason"] == "")
    for split in ("train", "holdout"):
        there = {path.name for path in (data / "dataset" / split).glob("*.png")}
        assert there == set(dataset["crop"][dataset["split"] == split])
        assert len(there) == curate[split]


def _pairs(table: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(table["image"], table["face"], strict=True))
