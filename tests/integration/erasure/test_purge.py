"""Images are purged one after the other: what is deleted for one hides nothing of the next."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from pttfaces import files
from pttfaces.denylist import DenyList
from pttfaces.erasure import dvc_store, messages
from pttfaces.erasure.findings import Findings, purge
from pttfaces.faces.quality import MIRROR_BITS
from pttfaces.repository import object_id

PROJECT = Path(__file__).resolve().parents[3]
ANN, BOB, CY = (files.digest_bytes(name) for name in (b"ann", b"bob", b"cy"))


@pytest.fixture
def repository(repository: Path) -> Path:
    """Three images and crops of two versions, in DVC's cache and a remote; the folder has one."""
    with Repo(str(repository)) as repo, repo.config.edit() as config:
        config["core"]["remote"] = "backup"
        config["remote"]["backup"] = {"url": str(repository / "remote")}
    with Repo(str(repository)) as repo:
        for version in (b"earlier ", b"now "):
            for digest, image in ((ANN, b"ann"), (BOB, b"bob"), (CY, b"cy")):
                files.write_bytes(f"data/raw/{digest[:2]}/{digest}.jpg", image)
                files.write_bytes(f"data/crops/{digest[:16]}-0.png", version + image)
            repo.add(["data/raw", "data/crops"])
            repo.push()
    return repository


def forget(repository: Path, name: str) -> None:
    with dvc_store.open_store(repository) as store:
        list(purge(Findings(repository, store, DenyList.of([name]))))


def store_old_tables(repository: Path, **urls: str) -> None:
    """Adds tables that dvc.lock names and DVC stores, but that are not in the folder."""
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
    with dvc_store.open_store(repository) as store:
        for number, (path, content) in enumerate(tables.items()):
            oid = store.stores[0].add(content)
            lock += f"  old{number}:\n    cmd: x\n    outs:\n    - path: {path}\n      md5: {oid}\n"
    (repository / "dvc.lock").write_text(lock)


def stored_bytes(repository: Path) -> set[bytes]:
    return {path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def check_that_ann_and_bob_go_and_cy_stays(repository: Path) -> None:
    """Forgets Ann and Bob by their names, one after the other."""
    for name in ("ann", "bob"):
        forget(repository, f"author:{name}")
        left = b"\n".join(stored_bytes(repository))
        assert b"earlier " + name.encode() not in left
        assert f"M.{name}".encode() not in left
    assert {b"cy", b"earlier cy", b"now cy"} <= stored_bytes(repository)


def test_purge_of_a_remote_that_deletes_nothing_warns(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some clouds refuse without an error."""
    with dvc_store.open_store(repository) as store:
        monkeypatch.setattr(store.stores[1].database, "delete", lambda oid: None)
        lines = list(purge(Findings(repository, store, DenyList.of([f"sha256:{ANN}"]))))
    assert "remote backup cannot be cleaned" in capsys.readouterr().err
    assert not any("remote backup" in line for line in lines)


def test_an_image_that_is_purged_after_another_is_gone_from_every_store(repository: Path) -> None:
    for digest, name in ((ANN, b"ann"), (BOB, b"bob")):
        versions = {name, b"earlier " + name, b"now " + name}
        assert versions <= stored_bytes(repository)
        forget(repository, f"sha256:{digest}")
        assert not versions & stored_bytes(repository)
    assert {b"cy", b"earlier cy", b"now cy"} <= stored_bytes(repository)


def test_an_author_that_only_old_tables_name_is_found_after_another_purge(
    repository: Path,
) -> None:
    store_old_tables(repository)
    check_that_ann_and_bob_go_and_cy_stays(repository)
    with dvc_store.open_store(repository) as store:
        assert store.provenance().articles["M.cy"]["title"] == "cy"


def test_tables_of_the_folder_and_of_the_cache_are_cleaned_at_once(repository: Path) -> None:
    """Otherwise `dvc commit` and `dvc push` would store them again."""
    names = ["data/ledger.csv", "data/dataset/manifest.csv", ".cache/download/web.jsonl"]
    names.append("data/dataset/train/metadata.csv")
    for name in names:
        files.write_text(name, f"a\n{ANN[:16]}-0.png\nother\n")
    forget(repository, f"sha256:{ANN}")
    assert [Path(name).read_text() for name in names] == ["a\nother\n"] * 4


def test_a_table_that_was_made_since_an_image_is_denied_stays(repository: Path) -> None:
    """Otherwise `dvc repro` would run again after each purge."""
    ledger = f"article,url,status,sha256\nM.cy,https://x.test/c,denied,{ANN}\n"
    denied = f"sha256:{ANN}\n"
    files.write_text("data/ledger.csv", ledger)
    deps = f"deps:\n    - path: data/denylist.txt\n      md5: {object_id(denied.encode())}\n"
    outs = f"outs:\n    - path: data/ledger.csv\n      md5: {object_id(ledger.encode())}\n"
    files.write_text("dvc.lock", f"stages:\n  download:\n    cmd: x\n    {deps}    {outs}")
    for text, left in ((denied, ledger), ("# nobody\n", ledger.partition("M.cy")[0])):
        files.write_text("data/denylist.txt", text)
        forget(repository, denied.strip())
        assert Path("data/ledger.csv").read_text() == left


def test_crops_of_one_group_of_duplicates_are_listed(repository: Path) -> None:
    """The crop that stays, and another that was left out in its favour."""
    names = [f"{digest[:16]}-0.png" for digest in (ANN, BOB, CY, "d" * 64)]
    rows = zip(names, ("", names[0], names[0], ""), strict=True)
    table = "".join(f"{name},{'duplicate' * bool(of)},{of}\n" for name, of in rows)
    files.write_text("data/dataset.csv", f"crop,reason,duplicate_of\n{table}")
    with dvc_store.open_store(repository) as store:
        for forgotten, alike in ((ANN, [names[1], names[2]]), (BOB, [names[0], names[2]])):
            found = Findings(repository, store, DenyList.of([f"sha256:{forgotten}"]))
            assert sorted(found.look_alikes()) == sorted(alike)


def test_crops_that_look_like_a_forgotten_one_are_listed_whatever_curate_did(
    repository: Path,
) -> None:
    """A mirrored one, one in a table of version 0.2, and none of another look."""
    look = "0f" * 64
    mirrored = f"{int(look, 16) ^ int(MIRROR_BITS, 16):0128x}"
    names = [f"{digest[:16]}-0.png" for digest in (ANN, BOB, CY, "d" * 64)]
    hashes = (look, mirrored, "f0" * 64, "damaged")
    table = "".join(f"{name},0,{phash}\n" for name, phash in zip(names, hashes, strict=True))
    files.write_text("data/crops.csv", f"crop,face,phash\n{table}")
    forgotten = DenyList.of([f"sha256:{ANN}"])
    with dvc_store.open_store(repository) as store:
        assert Findings(repository, store, forgotten).look_alikes() == [names[1]]
    files.write_text("data/crops.csv", f"crop,face,phash\n{table}old-0.png,0,{look[:64]}\n")
    with dvc_store.open_store(repository) as store:
        assert "old-0.png" in Findings(repository, store, forgotten).look_alikes()


def test_an_old_deny_list_with_entries_that_are_refused_now_stays(
    repository: Path,
) -> None:
    store_old_tables(repository)
    listed = b"author:ann and others\nsha256:XYZ\nurl:https://x.test/ann \ncrop:../x\n"
    with dvc_store.open_store(repository) as store:
        oid = store.stores[0].add(listed)
    forget(repository, "url:https://x.test/ann")
    assert b"ann" not in stored_bytes(repository)
    with dvc_store.open_store(repository) as store:
        assert store.stores[0].read(oid) == listed


def record_each_input(repository: Path) -> None:
    """As version 0.1 did: data/inbox.dvc and data/reference.dvc."""
    with Repo(str(repository)) as repo:
        for folder in ("data/inbox", "data/reference"):
            repo.add([folder])
        repo.push()


def record_inputs(repository: Path) -> None:
    """By data/inputs.dvc, with the outs of the project's own."""
    files.write_text("data/README.txt", "What you may put here")
    files.write_text("data/denylist.txt", "# nobody\n")
    files.write_bytes("data/inputs.dvc", (PROJECT / "data/inputs.dvc").read_bytes())
    with Repo(str(repository)) as repo:
        repo.commit("data/inputs.dvc", force=True)
        repo.push()


@pytest.mark.parametrize("record", [record_each_input, record_inputs])
@pytest.mark.parametrize("folder", ["data/inbox", "data/reference"])
def test_an_image_under_a_person_s_own_name_is_deleted(
    repository: Path, folder: str, record: Callable[[Path], None]
) -> None:
    def put(name: str, content: bytes) -> None:
        files.write_bytes(f"{folder}/{name}", content)
        record(repository)

    for other in ("data/inbox", "data/reference"):
        files.write_text(f"{other}/README.txt", other)
    put("me.jpg", b"dora")
    put("you.jpg", b"emil")
    forget(repository, f"sha256:{files.digest_bytes(b'dora')}")
    assert b"dora" not in stored_bytes(repository)
    forget(repository, f"sha256:{ANN}")
    put("once more.jpg", b"ann")
    forget(repository, f"sha256:{ANN}")
    assert b"ann" not in stored_bytes(repository)
    assert b"emil" in stored_bytes(repository)


def test_an_image_in_an_earlier_version_of_an_input_folder_is_deleted(repository: Path) -> None:
    """Its name says nothing, and data/raw has never had it."""
    files.write_bytes("data/reference/me.jpg", b"dora")
    files.write_bytes("data/reference/you.jpg", b"emil")
    with Repo(str(repository)) as repo:
        (stage,) = repo.add("data/reference")
        Path("data/reference/me.jpg").unlink()
        repo.add("data/reference")
    dep = f"deps:\n    - path: data/reference\n      md5: {stage.outs[0].hash_info.value}\n"
    files.write_text("dvc.lock", f"stages:\n  evaluate:\n    cmd: x\n    {dep}")
    assert b"dora" in stored_bytes(repository)
    forget(repository, f"sha256:{files.digest_bytes(b'dora')}")
    assert b"dora" not in stored_bytes(repository)
    assert b"emil" in stored_bytes(repository)


def test_an_original_that_left_data_raw_is_deleted_from_the_cache(repository: Path) -> None:
    for digest, image in ((ANN, b"ann"), (BOB, b"bob")):
        files.write_bytes(f".cache/originals/{digest[:2]}/{digest}.jpg", image)
    forget(repository, f"sha256:{ANN}")
    assert b"ann" not in stored_bytes(repository)
    assert Path(f".cache/originals/{BOB[:2]}/{BOB}.jpg").exists()


def test_images_that_no_folder_s_list_names_are_deleted(repository: Path) -> None:
    """After a kill of dvc before it has written the list."""
    for path in repository.rglob("*.dir"):
        path.unlink()
    forget(repository, f"sha256:{ANN}")
    assert not {b"ann", b"now ann"} & stored_bytes(repository)
    assert {b"bob", b"now bob"} <= stored_bytes(repository)


def test_an_address_that_is_the_beginning_of_another_matches_only_itself(repository: Path) -> None:
    store_old_tables(repository, ann="https://x.test/1", bob="https://x.test/12")
    with dvc_store.open_store(repository) as store:
        oid = store.stores[0].add(b"https://x.test/1  gone, HTTP 404\n")
    old = f"  old:\n    cmd: x\n    outs:\n    - path: data/failed.txt\n      md5: {oid}\n"
    (repository / "dvc.lock").write_text((repository / "dvc.lock").read_text() + old)
    forget(repository, "url:https://x.test/1")
    with dvc_store.open_store(repository) as store:
        left = store.provenance().denied_origins(DenyList.of(["author:bob"]))
    assert [origin.sha256 for origin in left] == [BOB]
    assert not any(
        re.search(rb"https://x.test/1\b", content) for content in stored_bytes(repository)
    )


def test_a_contact_sheet_is_deleted_with_any_image(repository: Path) -> None:
    content = b"contact sheet of ann and bob"
    with dvc_store.open_store(repository) as store:
        sheet = store.stores[0].add(content)
    entry = {
        "outs": [{"path": "metrics/pictures/contact_sheet.png", "md5": sheet}],
    }
    files.write_json(".dvc/cache/runs/ab/abc/abcd", entry)
    forget(repository, f"sha256:{files.digest_bytes(b'nobody')}")
    assert content in stored_bytes(repository)
    forget(repository, f"sha256:{BOB}")
    assert content not in stored_bytes(repository)
    assert Path(".dvc/cache/runs/ab/abc/abcd").exists()


def test_a_remote_that_cannot_be_reached_is_named_and_cleaned_later(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Repo(str(repository)) as repo, repo.config.edit() as config:
        config["remote"]["cloud"] = {"url": "s3://bucket"}  # its package is not installed
    away = Path("remote").rename("unmounted")
    forget(repository, f"sha256:{ANN}")
    printed = capsys.readouterr().err
    assert "remote backup cannot be cleaned" in printed
    assert "remote cloud cannot be cleaned" in printed
    away.rename("remote")
    assert b"ann" in stored_bytes(repository)
    forget(repository, f"sha256:{ANN}")
    assert b"ann" not in stored_bytes(repository)
    assert "remote backup" not in capsys.readouterr().err


def test_an_image_that_an_old_table_has_as_not_fetched_is_listed_once(
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
    with dvc_store.open_store(repository) as store:
        denied = DenyList.of(["url:https://x.test/ann"])
        found = Findings(repository, store, denied)
    listed = [line for line in messages.images(found) if line.startswith("  image")]
    assert [line.split()[1] for line in listed] == [ANN[:16]]


def test_detections_of_an_image_and_of_every_version_of_its_crops_are_deleted(
    repository: Path,
) -> None:
    """curate.recrop detects in crops, too; `.cache/detections` names both by their bytes."""
    contents = (b"ann", b"earlier ann", b"now ann", b"earlier cy")
    paths = [
        Path(f".cache/detections/haar/{digest[:2]}/{digest}.json")
        for digest in map(files.digest_bytes, contents)
    ]
    for path in paths:
        files.write_text(path, "{}")
    forget(repository, f"sha256:{ANN}")
    assert [path.exists() for path in paths] == [False, False, False, True]


def test_features_of_a_crop_that_dvc_has_not_stored_are_deleted(repository: Path) -> None:
    """As after `python src/crop.py`, or before dvc has noted the stage."""
    name, content = f"{ANN[:16]}-7.png", b"latest ann"
    files.write_bytes(f"data/crops/{name}", content)
    digest = files.digest_bytes(content)
    features = Path(f".cache/identity/sface-ab/{digest[:2]}/{digest}")
    files.write_bytes(features, b"features")
    forget(repository, f"sha256:{ANN}")
    assert not features.exists()


def test_no_symbolic_link_into_the_cache_is_left_dangling(
    repository: Path,
) -> None:
    with Repo(str(repository)) as repo, repo.config.edit() as config:
        config["cache"]["type"] = "symlink"
    files.write_text("data/ledger.csv", f"article,place,url,status,sha256\nM.1,,u,ok,{ANN}\n")
    with Repo(str(repository)) as repo:
        repo.add("data/ledger.csv")
        repo.checkout(relink=True, force=True)
    files.write_text("metrics/pictures/contact_sheet.png", "faces")
    with Repo(str(repository)) as repo:
        (stage,) = repo.add("metrics/pictures/contact_sheet.png")
        repo.checkout(relink=True, force=True)
    sheet, oid = Path("metrics/pictures/contact_sheet.png"), stage.outs[0].hash_info.value
    out = f"outs:\n    - path: {sheet.as_posix()}\n      md5: {oid}\n"
    files.write_text("dvc.lock", f"stages:\n  curate:\n    cmd: x\n    {out}")
    table, other = Path("data/ledger.csv"), Path(f"data/raw/{BOB[:2]}/{BOB}.jpg")
    unmounted = Path("data/reference")  # on a disk that is not mounted
    unmounted.symlink_to(repository / "not_mounted")
    assert table.is_symlink()
    assert sheet.is_symlink()
    forget(repository, f"sha256:{ANN}")
    assert not table.is_symlink()
    assert not sheet.is_symlink()
    assert unmounted.is_symlink()
    assert other.read_bytes() == b"bob"
    with Repo(str(repository)) as repo:
        repo.add("data/raw")  # which fails at a link that leads nowhere


def test_an_author_that_only_the_run_cache_names_is_found(repository: Path) -> None:
    """After an uncommitted `dvc repro` with other days. The tables stay for later purges, without
    rows of those who are forgotten."""
    store_old_tables(repository)
    lock = YAML(typ="safe").load(Path("dvc.lock"))
    outs = [out for stage in lock["stages"].values() for out in stage["outs"]]
    files.write_json(".dvc/cache/runs/ab/abc/abcd", {"deps": outs, "outs": []})
    (repository / "dvc.lock").unlink()
    check_that_ann_and_bob_go_and_cy_stays(repository)
