"""People who ask one after the other: what is deleted for one hides nothing of the next."""

import json
from pathlib import Path

import pytest
from dvc.repo import Repo

from pttfaces import files
from pttfaces.denylist import DenyList
from pttfaces.forgetting import storage
from pttfaces.forgetting.report import Findings, purge, read_lineage

PRESET = Path("presets/demo.yaml").resolve()
ANN, BOB, CY = (files.digest_bytes(name) for name in (b"ann", b"bob", b"cy"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures, in DVC's cache and a remote; what was made of them earlier is there only."""
    (tmp_path / "params.yaml").write_bytes(PRESET.read_bytes())
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with Repo.init(str(tmp_path), no_scm=True) as repo, repo.config.edit() as config:
        config["core"]["remote"] = "backup"
        config["remote"]["backup"] = {"url": str(tmp_path / "remote")}
    with Repo(str(tmp_path)) as repo:
        for version in (b"earlier ", b"now "):
            for digest, picture in ((ANN, b"ann"), (BOB, b"bob"), (CY, b"cy")):
                files.write_bytes(f"data/raw/{digest[:2]}/{digest}.jpg", picture)
                files.write_bytes(f"data/crops/{digest[:16]}-0.png", version + picture)
            repo.add(["data/raw", "data/crops"])
            repo.push()
    return tmp_path


def forget(repository: Path, name: str) -> None:
    with storage.opened(repository) as kept:
        list(purge(Findings(repository, kept, DenyList.of([name]), duplicate_bits=30)))


def keep_tables_of_earlier(repository: Path) -> None:
    """Tables that dvc.lock knows and DVC keeps, and that lie in the folder no more."""
    people = (("ann", ANN), ("bob", BOB), ("cy", CY))
    articles = [{"id": f"M.{name}", "author": name, "title": name} for name, _ in people]
    ledger = "article,url,sha256\n" + "".join(
        f"M.{name},https://x.test/{name},{digest}\n" for name, digest in people
    )
    tables = {
        "data/articles.jsonl": "".join(json.dumps(row) + "\n" for row in articles).encode(),
        "data/ledger.csv": ledger.encode(),
    }
    lock = "schema: '2.0'\nstages:\n"
    with storage.opened(repository) as kept:
        for number, (path, content) in enumerate(tables.items()):
            oid = kept.cache.add(content)
            lock += f"  old{number}:\n    cmd: x\n    outs:\n    - path: {path}\n      md5: {oid}\n"
    (repository / "dvc.lock").write_text(lock)


def lying(repository: Path) -> set[bytes]:
    return {path.read_bytes() for path in repository.rglob("*") if path.is_file()}


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
    for name in ("ann", "bob"):
        forget(repository, f"author:{name}")
        left = b"\n".join(lying(repository))
        assert b"earlier " + name.encode() not in left
        assert f"M.{name}".encode() not in left
    assert {b"cy", b"earlier cy", b"now cy"} <= lying(repository)
    with storage.opened(repository) as kept:
        (article,) = read_lineage(repository, kept).articles_of(DenyList.of(["author:cy"])).values()
    assert article["title"] == "cy"


def test_a_list_that_a_kill_left_half_written_is_written_anew(repository: Path) -> None:
    with storage.opened(repository) as kept:
        store = kept.cache
        oid = store.add(b"whole")
        store.delete([oid])
        store._objects.add_bytes(oid, b"wh")
        store.ids.add(oid)
        assert store.add(b"whole") == oid
        assert store.read(oid) == b"whole"
