"""People who ask one after the other: what is deleted for one hides nothing of the next."""

import json
import re
from pathlib import Path

import pytest
from dvc.repo import Repo

from pttfaces import files
from pttfaces.denylist import DenyList
from pttfaces.erasure import dvc_store
from pttfaces.erasure.findings import Findings, purge, read_lineage
from pttfaces.erasure.messages import what_goes

ANN, BOB, CY = (files.digest_bytes(name) for name in (b"ann", b"bob", b"cy"))


@pytest.fixture
def repository(repository: Path) -> Path:
    """Three pictures, in DVC's cache and a remote; what was made of them earlier is there only."""
    with Repo(str(repository)) as repo, repo.config.edit() as config:
        config["core"]["remote"] = "backup"
        config["remote"]["backup"] = {"url": str(repository / "remote")}
    with Repo(str(repository)) as repo:
        for version in (b"earlier ", b"now "):
            for digest, picture in ((ANN, b"ann"), (BOB, b"bob"), (CY, b"cy")):
                files.write_bytes(f"data/raw/{digest[:2]}/{digest}.jpg", picture)
                files.write_bytes(f"data/crops/{digest[:16]}-0.png", version + picture)
            repo.add(["data/raw", "data/crops"])
            repo.push()
    return repository


def forget(repository: Path, name: str) -> None:
    with dvc_store.opened(repository) as kept:
        list(purge(Findings(repository, kept, DenyList.of([name]), duplicate_bits=30)))


def keep_tables_of_earlier(repository: Path, **urls: str) -> None:
    """Tables that dvc.lock knows and DVC keeps, and that lie in the folder no more."""
    people = (("ann", ANN), ("bob", BOB), ("cy", CY))
    articles = [{"id": f"M.{name}", "author": name, "title": name} for name, _ in people]
    ledger = "article,url,sha256\n" + "".join(
        f"M.{name},{urls.get(name, f'https://x.test/{name}')},{digest}\n" for name, digest in people
    )
    tables = {
        "data/articles.jsonl": "".join(json.dumps(row) + "\n" for row in articles).encode(),
        "data/ledger.csv": ledger.encode(),
    }
    lock = "schema: '2.0'\nstages:\n"
    with dvc_store.opened(repository) as kept:
        for number, (path, content) in enumerate(tables.items()):
            oid = kept.cache.add(content)
            lock += f"  old{number}:\n    cmd: x\n    outs:\n    - path: {path}\n      md5: {oid}\n"
    (repository / "dvc.lock").write_text(lock)


def lying(repository: Path) -> set[bytes]:
    return {path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def check_that_ann_and_bob_go_and_cy_stays(repository: Path) -> None:
    """Ann and Bob are forgotten by their names, one after the other."""
    for name in ("ann", "bob"):
        forget(repository, f"author:{name}")
        left = b"\n".join(lying(repository))
        assert b"earlier " + name.encode() not in left
        assert f"M.{name}".encode() not in left
    assert {b"cy", b"earlier cy", b"now cy"} <= lying(repository)


def test_who_is_forgotten_after_somebody_else_is_nowhere_any_more_either(repository: Path) -> None:
    for digest, name in ((ANN, b"ann"), (BOB, b"bob")):
        versions = {name, b"earlier " + name, b"now " + name}
        assert versions <= lying(repository)
        forget(repository, f"sha256:{digest}")
        assert not versions & lying(repository)
    assert {b"cy", b"earlier cy", b"now cy"} <= lying(repository)


def test_whose_pictures_only_tables_of_earlier_tell_is_found_after_somebody_else(
    repository: Path,
) -> None:
    keep_tables_of_earlier(repository)
    check_that_ann_and_bob_go_and_cy_stays(repository)
    with dvc_store.opened(repository) as kept:
        (article,) = read_lineage(repository, kept).articles_of(DenyList.of(["author:cy"])).values()
    assert article["title"] == "cy"


def test_an_earlier_deny_list_with_entries_that_are_refused_now_stays_and_hinders_nothing(
    repository: Path,
) -> None:
    keep_tables_of_earlier(repository)
    listed = b"author:ann and others\nsha256:XYZ\nurl:https://x.test/ann \ncrop:../x\n"
    with dvc_store.opened(repository) as kept:
        oid = kept.cache.add(listed)
    forget(repository, "url:https://x.test/ann")
    assert b"ann" not in lying(repository)
    with dvc_store.opened(repository) as kept:
        assert kept.cache.read(oid) == listed


def keep(repository: Path, folder: str, name: str, content: bytes) -> None:
    files.write_bytes(f"{folder}/{name}", content)
    with Repo(str(repository)) as repo:
        repo.add([folder])
        repo.push()


@pytest.mark.parametrize("folder", ["data/inbox", "data/reference"])
def test_a_picture_under_a_name_of_a_person_s_own_goes_too(repository: Path, folder: str) -> None:
    keep(repository, folder, "me.jpg", b"dora")
    keep(repository, folder, "you.jpg", b"emil")
    forget(repository, f"sha256:{files.digest_bytes(b'dora')}")
    assert b"dora" not in lying(repository)
    forget(repository, f"sha256:{ANN}")
    keep(repository, folder, "once more.jpg", b"ann")
    forget(repository, f"sha256:{ANN}")
    assert b"ann" not in lying(repository)
    assert b"emil" in lying(repository)


def test_pictures_of_a_kill_that_no_list_names_go_too(repository: Path) -> None:
    for path in repository.rglob("*.dir"):
        path.unlink()
    forget(repository, f"sha256:{ANN}")
    assert not {b"ann", b"now ann"} & lying(repository)
    assert {b"bob", b"now bob"} <= lying(repository)


def test_an_address_that_begins_another_takes_no_row_of_it(repository: Path) -> None:
    keep_tables_of_earlier(repository, ann="https://x.test/1", bob="https://x.test/12")
    with dvc_store.opened(repository) as kept:
        failed = b"https://x.test/1  gone, HTTP 404\n"
        kept.cache.add(failed)
    forget(repository, "url:https://x.test/1")
    with dvc_store.opened(repository) as kept:
        lineage = read_lineage(repository, kept)
    assert [origin.sha256 for origin in lineage.matches(DenyList.of(["author:bob"]))] == [BOB]
    assert not any(re.search(rb"https://x.test/1\b", content) for content in lying(repository))


def test_what_dvc_knows_of_runs_stays_since_it_tells_of_sheets(repository: Path) -> None:
    content = b"contact sheet of ann and bob"
    with dvc_store.opened(repository) as kept:
        sheet = kept.cache.add(content)
        folder = next(oid for oid in kept.folders if kept.holds(oid, {ANN[:16]}))
    entry = {
        "deps": [{"path": "data/crops", "md5": folder}],
        "outs": [{"path": "metrics/pictures/contact_sheet.png", "md5": sheet}],
    }
    files.write_json(".dvc/cache/runs/ab/abc/abcd", entry)
    forget(repository, f"sha256:{files.digest_bytes(b'nobody')}")
    assert content in lying(repository)
    forget(repository, f"sha256:{BOB}")
    assert content not in lying(repository)
    assert Path(".dvc/cache/runs/ab/abc/abcd").exists()


def test_a_remote_that_is_away_is_named(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Repo(str(repository)) as repo, repo.config.edit() as config:
        config["remote"]["cloud"] = {"url": "s3://bucket"}  # its package is not installed
    away = Path("remote").rename("unmounted")
    forget(repository, f"sha256:{ANN}")
    told = capsys.readouterr().err
    assert "the remote backup cannot be cleaned" in told
    assert "the remote cloud cannot be cleaned" in told
    away.rename("remote")
    assert b"ann" in lying(repository)
    forget(repository, f"sha256:{ANN}")
    assert b"ann" not in lying(repository)
    assert "remote backup" not in capsys.readouterr().err


def test_a_list_that_a_kill_left_half_written_is_written_anew(repository: Path) -> None:
    with dvc_store.opened(repository) as kept:
        store = kept.cache
        oid = store.add(b"whole")
        store.delete([oid])
        store._objects.add_bytes(oid, b"wh")
        store.ids.add(oid)
        assert store.add(b"whole") == oid
        assert store.read(oid) == b"whole"


def test_a_picture_that_a_table_of_before_has_as_not_fetched_is_told_as_the_one_it_is(
    repository: Path,
) -> None:
    for digest in ("", ANN):
        text = f"article,place,url,status,sha256\nM.ann,body,https://x.test/ann,ok,{digest}\n"
        files.write_text("data/ledger.csv", text)
        with Repo(str(repository)) as repo:
            (output,) = repo.add("data/ledger.csv")[0].outs
        lock = Path("dvc.lock").read_text() if Path("dvc.lock").exists() else "stages:\n"
        lock += f"  old{digest[:4]}:\n    cmd: x\n    outs:\n    - path: data/ledger.csv\n"
        files.write_text("dvc.lock", f"{lock}      md5: {output.hash_info.value}\n")
    with dvc_store.opened(repository) as kept:
        wanted = DenyList.of(["url:https://x.test/ann"])
        found = Findings(repository, kept, wanted, duplicate_bits=30)
    assert {origin.sha256 for origin in found.origins} == {"", ANN}
    told = [line for line in what_goes(found) if line.startswith("  picture")]
    assert [line.split()[1] for line in told] == [ANN[:16]]


def test_where_the_folder_holds_links_into_the_cache_none_is_left_that_leads_nowhere(
    repository: Path,
) -> None:
    with Repo(str(repository)) as repo, repo.config.edit() as config:
        config["cache"]["type"] = "symlink"
    files.write_text("data/ledger.csv", f"article,place,url,status,sha256\nM.1,,u,ok,{ANN}\n")
    with Repo(str(repository)) as repo:
        repo.add("data/ledger.csv")
        repo.checkout(relink=True, force=True)
    table, other = Path("data/ledger.csv"), Path(f"data/raw/{BOB[:2]}/{BOB}.jpg")
    elsewhere = Path("data/reference")  # on a disk that is not there just now
    elsewhere.symlink_to(repository / "not_mounted")
    assert table.is_symlink()
    forget(repository, f"sha256:{ANN}")
    assert not table.is_symlink()
    assert elsewhere.is_symlink()
    assert other.read_bytes() == b"bob"
    with Repo(str(repository)) as repo:
        repo.add("data/raw")  # which fails at a link that leads nowhere


def test_who_is_named_only_by_tables_that_no_stage_and_no_commit_has_is_found(
    repository: Path,
) -> None:
    """As after `dvc repro` with other days, uncommitted: DVC's run cache knows no stage with outs
    that persist. The tables stay for whoever asks next, without those who have asked."""
    keep_tables_of_earlier(repository)
    (repository / "dvc.lock").unlink()
    check_that_ann_and_bob_go_and_cy_stays(repository)
