"""Finds what was made of denied images in every store, and deletes it.

An image is found by digests and tables. The tables, of every version that is stored, lead from the
deny list to the SHA-256 of the images. The names of an image, its crops and its training images
begin with that digest: the lists of DVC's folders have them, with the MD5 by which DVC stores
each. Of the tables, lines that name an image or an article are dropped.
"""

import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pttfaces import files, source
from pttfaces.board.hosts import HostRules
from pttfaces.config import Params
from pttfaces.curation.duplicates import find_alike
from pttfaces.denylist import DENIED, DenyList
from pttfaces.erasure import models, working_files
from pttfaces.erasure.dvc_store import DvcStore
from pttfaces.erasure.provenance import (
    ID_LENGTH,
    KEYS,
    Origin,
    ProvenanceTables,
    is_named_after,
)
from pttfaces.repository import folder_list, object_id

# What may follow an address in a table: without it …/1 would match …/12, too.
_ADDRESS_ENDS = ('"', "'", ",", "<", " ", "\t", "\n", "\r")


class Findings:
    """All that exists of what a deny list names, in the project's folder at `root`."""

    def __init__(self, root: Path, store: DvcStore, denied: DenyList, params: Params) -> None:
        self.root, self.store, self._denied, self._params = root, store, denied, params
        self.tables = read_tables(root, store)
        self.origins = self._find_origins()
        self.digests = {origin.sha256 for origin in self.origins if origin.sha256}
        self.digests |= denied.entries.get("sha256", frozenset())
        of_crops = {crop[:ID_LENGTH] for crop in denied.entries.get("crop", ())}
        self.image_ids = {digest[:ID_LENGTH] for digest in self.digests} | of_crops
        self.articles = self.tables.articles_of(denied)
        self.crops = self.tables.crops_of(self.image_ids)
        self._denied_origins = [
            origin
            for origin in self.origins
            if origin.article in self.articles
            or denied.denies(author=origin.poster, url=origin.url)
        ]
        self.search_terms = [term.encode() for term in sorted(self._find_search_terms())]
        self.models = models.find_models(store, self.image_ids)

    def entries(self) -> list[str]:
        """Lines for the deny list: the names given, and the images by their digests, so that they
        stay out wherever else they are posted."""
        return [*self._denied.lines(), *(f"sha256:{digest}" for digest in sorted(self.digests))]

    def look_alikes(self) -> list[str]:
        """Other crops that are as similar to the images' own as duplicates are."""
        hashes = self.tables.hashes()
        own = [text for name, text in hashes.items() if name in self.crops]
        others = {name: text for name, text in hashes.items() if name not in self.crops}
        bits = self._params.curate.duplicate_bits
        names = list(others)
        return sorted(names[index] for index in find_alike(own, list(others.values()), bits))

    @cached_property
    def replacements(self) -> dict[str, bytes]:
        """DVC's objects to delete → what to store in the place of each, b"" for nothing.

        In the order of deletion: what leads to others is last. The rest of a table and of a
        folder's list stays, so that the next person who asks is found there.
        """
        sheets = {  # which show many images, and can be made again
            run.outs[sheet]
            for run in self.store.stage_runs
            for sheet in working_files.SHEETS
            if sheet in run.outs and self.images
        }
        found = dict.fromkeys(sorted(self.images | sheets - self.made_without), b"")
        for oid in self.store.tables.keys() - self.made_without:
            content = self.store.read(oid)
            rest = working_files.without_lines(content, self.search_terms)
            if rest != content:
                leads_to_images = Path(self.store.tables[oid]).name in KEYS
                found[oid] = rest if leads_to_images else b""
        for folder, entries in self.store.folders.items():
            kept = [entry for entry in entries if entry[0] not in found]
            if len(kept) < len(entries):
                found[folder] = folder_list(kept) if kept else b""
        return found

    @cached_property
    def images(self) -> set[str]:
        """DVC's objects that are an image, a crop or a training image, under whatever name."""
        here = (*working_files.named_after(self.root, self.image_ids), *self.input_files())
        found = {object_id(path.read_bytes()) for path in here}
        for entries in self.store.folders.values():
            found |= {oid for oid, path in entries if is_named_after(path, self.image_ids)}
        put_in = {  # earlier versions of data/inbox and data/reference
            oid
            for run in self.store.stage_runs
            for folder in working_files.INPUT_FOLDERS
            for oid, _ in self.store.folders.get(run.deps.get(folder, ""), ())
        }
        contents = ((oid, self.store.read(oid)) for oid in put_in - found)
        return found | {oid for oid, each in contents if files.digest_bytes(each) in self.digests}

    @cached_property
    def made_without(self) -> set[str]:
        """DVC's objects made since the images are denied: these may name what they leave out."""
        if DenyList.read(self.root / DENIED).missing_lines(self.entries()):
            return set()
        return self.store.made_since(DENIED)

    def is_made_without(self, path: Path) -> bool:
        """Whether a file in the folder is an out that was made since the images are denied."""
        return object_id(path.read_bytes()) in self.made_without

    def paths(self) -> list[Path]:
        """Files and folders outside DVC's storage to be deleted as a whole."""
        # The faces that were found in a crop are cached by the digest of its bytes.
        digests = {files.digest_bytes(self.store.read(oid)) for oid in self.images}
        digests |= {files.digest_bytes(address.encode()) for address in self._page_addresses()}
        ids = self.image_ids | {digest[:ID_LENGTH] for digest in digests}
        return [
            *working_files.named_after(self.root, ids),
            *self.input_files(),
            *self._sheet_files(),
            *working_files.cached_listings(self.root, self.search_terms),
            *working_files.zips_with(self.root, self.image_ids),
            *working_files.temporary_files(self.root),
        ]

    def input_files(self) -> list[Path]:
        """Copies that a person put into data/inbox or data/reference."""
        return working_files.input_files(self.root, self.digests)

    def _sheet_files(self) -> list[Path]:
        """What shows many images, and copies of it."""
        names = (*working_files.SHEETS, *working_files.SHEET_COPIES) if self.images else ()
        paths = [self.root / name for name in names if (self.root / name).exists()]
        return [path for path in paths if path.is_dir() or not self.is_made_without(path)]

    def _page_addresses(self) -> list[str]:
        """The addresses of the articles, and of the albums that they link."""
        posted = [origin.posted for origin in self._denied_origins]
        albums = working_files.album_addresses(posted, HostRules(source.host_aliases(self._params)))
        return [*(str(row.get("url", "")) for row in self.articles.values()), *albums]

    def _find_origins(self) -> list[Origin]:
        found = self.tables.matches(self._denied)
        for crop in sorted(self._denied.entries.get("crop", ())):
            found += self.tables.origins_of(crop[:ID_LENGTH])
        # The same images in other places are erased there, too.
        for digest in sorted({origin.sha256 for origin in found}):
            found += self.tables.origins_of(digest)
        return list(dict.fromkeys(found))

    def _find_search_terms(self) -> Iterator[str]:
        """Texts that occur only in lines about the images and articles."""
        yield from self.image_ids
        yield from self.articles
        yield from self._denied.entries.get("article", ())
        addresses = set(self._denied.entries.get("url", ()))
        for origin in self._denied_origins:
            addresses |= {origin.url, origin.posted, origin.final_url}
        yield from (address + end for address in addresses - {""} for end in _ADDRESS_ENDS)


def read_tables(root: Path, store: DvcStore) -> ProvenanceTables:
    """All tables: those in the working folder first, then every version that DVC stores."""
    tables = ProvenanceTables()
    for name in KEYS:
        if (path := root / "data" / name).exists():
            tables.add(name, path.read_bytes())
    for name, content in store.provenance_tables():
        tables.add(name, content)
    return tables


def purge(found: Findings) -> Iterator[str]:
    """Deletes all that was found in every store; yields a line for each.

    DataError: a stage is running. A store that cannot be cleaned is a warning on stderr.
    """
    working_files.check_idle(found.root)
    replacements = found.replacements  # before the files go by which some of them are found
    paths = found.paths()
    for path in paths:
        working_files.remove(path)
    for path in working_files.tables(found.root):
        content = path.read_bytes()
        rest = working_files.without_lines(content, found.search_terms)
        if rest != content and not found.is_made_without(path):
            files.write_bytes(path, rest)
    yield f"deleted {len(paths)} files and folders here"
    count, failed = models.sheets(found.models.suspected, delete=True)
    yield f"deleted {count} artifacts of MLflow that may show them"
    uncleaned = {f"MLflow run {run_id}": reason for run_id, reason in failed.items()}
    uncleaned |= {f"remote {name}": reason for name, reason in found.store.unreachable.items()}
    for store in (*found.store.remotes, found.store.cache):
        try:
            deleted = store.replace(replacements, found.store.tables)
            yield f"deleted {deleted} objects from {store.name}"
        except Exception as error:  # of many kinds: a cloud's client's, the disk's
            uncleaned[store.name] = str(error) or type(error).__name__
    for name, reason in uncleaned.items():
        print(
            f"warning: the {name} cannot be cleaned ({reason}); run "
            "`pttfaces forget --purge` again when it can.",
            file=sys.stderr,
        )
