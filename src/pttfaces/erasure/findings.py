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

from pttfaces import denylist, files
from pttfaces.curation import duplicates
from pttfaces.curation.candidates import HASH
from pttfaces.denylist import DENIED, DenyList
from pttfaces.erasure import models, working_files
from pttfaces.erasure.dvc_store import DvcStore
from pttfaces.erasure.provenance import ID_LENGTH, is_named_after, urls_of
from pttfaces.errors import first_line
from pttfaces.repository import folder_list, object_id

_REVIEW_BITS = 48  # as for photographs in curate.duplicate_bits; a person looks at what is found
# What may follow an address in a table: without it …/1 would match …/12, too.
_ADDRESS_ENDS = ('"', "'", ",", "<", " ", "\t", "\n", "\r")


class Findings:
    """All that exists of what a deny list names, in the project's folder at `root`.

    provenance: all tables; origins: the places of the images; digests: the SHA-256 of those that
    were fetched; image_ids: their first digits; articles and crops: theirs, by id and file name;
    models: all models, and which of them have seen an image.
    """

    def __init__(self, root: Path, store: DvcStore, denied: DenyList) -> None:
        self.root, self.store, self._denied = root, store, denied
        self.provenance = store.provenance()
        named = {kind: set(denied.entries.get(kind, ())) for kind in denylist.KINDS}
        places = self.provenance.denied_origins(denied)
        names = named["sha256"] | named["crop"] | {place.sha256 for place in places}
        self.image_ids = {name[:ID_LENGTH] for name in names - {""}}
        # The same images in other places are erased there, too.
        self.origins = list(dict.fromkeys(places + self.provenance.origins_of(self.image_ids)))
        self.digests = named["sha256"] | {origin.sha256 for origin in self.origins} - {""}
        self.articles = {
            name: row
            for name, row in self.provenance.articles.items()
            if denied.denies(article=name, author=row["author"])
        }
        crops = self.provenance.crops.items()
        self.crops = {name: row for name, row in crops if is_named_after(name, self.image_ids)}
        self.models = models.find_models(store, self.image_ids)
        addresses = {url for place in places for url in urls_of(place)} | named["url"]
        # Texts that occur only in lines about the images and articles.
        terms = self.image_ids | self.articles.keys() | named["article"]
        terms |= {address + end for address in addresses for end in _ADDRESS_ENDS}
        self._search_terms = [term.encode() for term in terms]

    def entries(self) -> list[str]:
        """Lines for the deny list: the names given, and the images by their digests, so that they
        stay out wherever else they are posted."""
        return [*self._denied.lines(), *(f"sha256:{digest}" for digest in sorted(self.digests))]

    def look_alikes(self) -> list[str]:
        """Other crops that look like the images' own, and those that curate found to be copies of
        the same crop."""
        originals = {row["duplicate_of"] or name for name, row in self.crops.items()}
        rows = self.provenance.crops.items()
        alike = {name for name, row in rows if (row["duplicate_of"] or name) in originals}
        # A hash that was cut in a damaged table has another length; version 0.2 has shorter ones.
        hashes = {name: row["phash"] for name, row in rows if HASH.fullmatch(row["phash"])}
        own = [phash for name, phash in hashes.items() if name in self.crops]
        is_alike = duplicates.find_similar(list(hashes.values()), own, _REVIEW_BITS)
        alike |= {name for name, similar in zip(hashes, is_alike, strict=True) if similar}
        return [name for name, _ in rows if name in alike and name not in self.crops]

    @cached_property
    def replacements(self) -> dict[str, bytes]:
        """DVC's objects to delete → what to store in the place of each, b"" for nothing.

        In the order of deletion: what leads to others is last. The rest of a table and of a
        folder's list stays, so that the next person who asks is found there.
        """
        found = dict.fromkeys(sorted(self.images), b"")
        for oid, path in self.store.recorded if self.images else ():
            if path in working_files.SHEETS:
                found[oid] = b""  # it shows many images, and can be made again
        for oid in self.store.tables:
            content = self.store.read(oid)
            if (rest := self.rest_of(content)) != content:
                found[oid] = rest
        for folder, entries in self.store.folders.items():
            kept = [entry for entry in entries if entry[0] not in found]
            if len(kept) < len(entries):
                found[folder] = folder_list(kept) if kept else b""
        return found

    @cached_property
    def images(self) -> set[str]:
        """DVC's objects that are an image, a crop or a training image, under whatever name."""
        found = {object_id(path.read_bytes()) for path in self._files}
        for entries in self.store.folders.values():
            found |= {oid for oid, path in entries if is_named_after(path, self.image_ids)}
        inputs = [o for o, path in self.store.recorded if path in working_files.INPUT_FOLDERS]
        put_in = {oid for folder in inputs for oid, _ in self.store.folders.get(folder, ())}
        contents = ((oid, self.store.read(oid)) for oid in put_in - found)
        return found | {oid for oid, each in contents if files.digest_bytes(each) in self.digests}

    def rest_of(self, table: bytes) -> bytes:
        """A table without its lines about the images and articles.

        One that was made since they are denied stays as it is: it may name what it leaves out.
        """
        if object_id(table) in self._made_since:
            return table
        return working_files.without_lines(table, self._search_terms)

    @property
    def _files(self) -> list[Path]:
        """Images and crops in the folder."""
        return [*working_files.named_after(self.root, self.image_ids), *self.input_files()]

    def input_files(self) -> list[Path]:
        """Copies that a person put into data/inbox or data/reference."""
        return working_files.input_files(self.root, self.digests)

    def paths(self) -> list[Path]:
        """Files and folders outside DVC's storage to be deleted as a whole."""
        # The faces that were found in a crop are cached by the digest of its bytes, a page by that
        # of its address.
        digests = {files.digest_bytes(self.store.read(oid)) for oid in self.images}
        digests |= {files.digest_file(path) for path in self._files}  # not yet in DVC's cache
        pages = (str(row["url"]) for row in self.articles.values())
        digests |= {files.digest_bytes(address.encode()) for address in pages}
        ids = self.image_ids | {digest[:ID_LENGTH] for digest in digests}
        return [
            *working_files.named_after(self.root, ids),
            *self.input_files(),
            *(working_files.sheets(self.root) if self.images else ()),
            *working_files.zips_with(self.root, self.image_ids),
            *working_files.temporary_files(self.root),
        ]

    @cached_property
    def _made_since(self) -> set[str]:
        """DVC's objects that the stages have made from a deny list with all the images."""
        missing = DenyList.read(self.root / DENIED).missing_lines(self.entries())
        return set() if missing else self.store.made_from(DENIED)


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
        if (rest := found.rest_of(content)) != content:
            files.write_bytes(path, rest)
    yield f"deleted {len(paths)} files and folders here"
    count, failed = models.sheets(found.models, delete=True)
    yield f"deleted {count} artifacts of MLflow that may show them"
    uncleaned = {f"MLflow run {run_id}": reason for run_id, reason in failed.items()}
    if found.models.mlflow_error:
        uncleaned["MLflow store"] = found.models.mlflow_error
    uncleaned |= {f"remote {name}": reason for name, reason in found.store.unreachable.items()}
    for store in reversed(found.store.stores):  # the cache last: it leads to what the others have
        try:
            deleted = store.replace(replacements, found.store.tables)
            yield f"deleted {deleted} objects from {store.name}"
        except Exception as error:  # of many kinds: a cloud's client's, the disk's
            uncleaned[store.name] = first_line(error)
    for name, reason in uncleaned.items():
        print(
            f"warning: {name} cannot be cleaned ({reason}); run "
            "`pttfaces forget --purge` again when it can.",
            file=sys.stderr,
        )
