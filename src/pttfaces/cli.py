"""Defines the command `pttfaces`, for everything that is not a stage of the pipeline."""

import io
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click
from ruamel.yaml import YAML

from pttfaces.stage import run
from pttfaces import __version__, config, files, repository
from pttfaces.errors import DataError, ParamsError, printable

PRESETS, PARAMS = Path("presets"), Path("params.yaml")


def main() -> NoReturn:
    """The entry point of the console script and of `python -m pttfaces`."""

    def invoke() -> None:
        try:
            commands(prog_name="pttfaces", standalone_mode=False)
        except click.Abort:
            raise KeyboardInterrupt from None
        except click.ClickException as error:
            error.show()
            sys.exit(2)

    run(invoke)


class _Command(click.Command):
    """A command that runs only in a checkout; its help is available anywhere."""

    def invoke(self, context: click.Context) -> Any:
        if not Path("dvc.yaml").is_file():
            raise ParamsError(
                f"{Path.cwd()} is not a checkout of PTT Faces; change to the folder with its "
                "dvc.yaml."
            )
        return super().invoke(context)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Work with a checkout of PTT Faces; run these commands in its top folder.

    `dvc repro` runs the pipeline itself.
    """


@commands.command(cls=_Command)
@click.argument("name")
@click.option("--force", is_flag=True, help="Overwrite uncommitted edits.")
@click.option("--keep", is_flag=True, help="Keep the values of params.yaml; add missing keys.")
def preset(name: str, force: bool, keep: bool) -> None:
    """Write params.yaml from presets/NAME.yaml: demo, photos, seed or best."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))
        raise ParamsError(f"there is no preset {name!r}; choose one of {known}.")
    values = config.read(path)
    config.check(values, str(path))
    if not (force or keep) and PARAMS.exists() and _has_uncommitted_edits():
        raise ParamsError(
            "params.yaml has edits that are neither committed nor a preset; commit them, or add "
            "--force to discard them."
        )
    found = repository.read_yaml_file(PARAMS)
    before = files.flatten(found) if isinstance(found, dict) else {}
    content = _with_values(path, found) if keep else path.read_bytes()
    after = files.flatten(config.parse(content.decode()))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            print(f"  {key}: {before.get(key)} -> {after.get(key)}")
    files.write_bytes(PARAMS, content)
    kept = " with your values" if keep else ""
    print(f"params.yaml is now the preset {name}{kept}; `dvc repro` runs it.")


def _with_values(path: Path, values: Any) -> bytes:
    """A preset's text with the values that another file of parameters has for its keys."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    text = yaml.load(path)
    for name, group in values.items() if isinstance(values, dict) else ():
        if isinstance(group, dict) and isinstance(text.get(name), dict):
            text[name].update((key, group[key]) for key in group.keys() & text[name].keys())
        elif name in text:
            text[name] = group
    yaml.dump(text, buffer := io.BytesIO())
    return buffer.getvalue()


def _has_uncommitted_edits() -> bool:
    content = PARAMS.read_bytes()
    if any(content == path.read_bytes() for path in PRESETS.glob("*.yaml")):
        return False
    # ./ because the project may be a folder inside a larger repository
    committed = repository.git("show", f"HEAD:./{PARAMS}").encode()
    return committed.splitlines() != content.splitlines()


@commands.command(cls=_Command)
@click.argument("file")
def trace(file: str) -> None:
    """Show where a crop or an image came from: its article, author and address.

    FILE is a file of data/crops, data/dataset or data/raw.
    """
    from pttfaces.erasure import dvc_store, messages, targets

    with dvc_store.open_store(Path()) as store:
        _print_lines(messages.trace(store.provenance(), targets.table_key(file)))


@commands.command(cls=_Command)
@click.option("--url", multiple=True, help="A link to an image, as posted or as fetched.")
@click.option("--article", multiple=True, help="An article's id or address, with all its images.")
@click.option("--author", multiple=True, help="A user id, with all that this person posted.")
@click.option("--sha256", multiple=True, help="An image's digest.")
@click.option(
    "--crop", multiple=True, help="A crop's or image's file; the whole image is forgotten."
)
@click.option(
    "--face",
    type=click.Path(path_type=Path),
    help="A photograph or a crop: lists crops that may show the same person, to look at.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be forgotten; change nothing.")
@click.option("--purge", is_flag=True, help="Also delete the stored files.")
def forget(dry_run: bool, purge: bool, face: Path | None, **names: tuple[str, ...]) -> None:
    """Put people or images on the deny list; with --purge, also delete their stored files.

    After `dvc repro` they are in no data set and in no model trained from then on.
    Options may be repeated. --purge alone deletes the stored files of everyone on the deny list.

    \b
    pttfaces forget --author someone --dry-run
    pttfaces forget --article M.1704074641.A.0F3 --purge
    """
    from pttfaces import denylist, workdir
    from pttfaces.denylist import DENIED, DenyList
    from pttfaces.erasure import dvc_store, findings, messages, targets

    entries = targets.entries(**names)
    if face:
        from pttfaces.erasure import same_face

        alike = same_face.find_same_face(face, config.load(), Path("data/crops"))
        with dvc_store.open_store(Path()) as store:
            _print_lines(same_face.describe(alike, store.provenance().crops))
    if not (entries or purge):
        if face:
            return
        raise click.UsageError("Say what to forget (--article, --author, ...), or add --purge.")
    with dvc_store.open_store(Path()) as store:
        everyone = [*DenyList.read(DENIED).lines(), *denylist.forgotten().lines()]
        denied = DenyList.of(entries or everyone)
        found = findings.Findings(Path(), store, denied)
        added = None
        if not dry_run:  # first: `| head` ends the command while it prints
            added = DenyList.add(DENIED, found.entries())
            DenyList.add(workdir.root() / denylist.FORGOTTEN, found.entries())
        _print_lines(messages.images(found))
        _print_lines(messages.models(found))
        _print_lines(messages.stored(found))
        if added is None:
            print("This was a dry run: nothing has changed.")
            return
        print(f"{DENIED}: {added} entries added")
        _print_lines(findings.purge(found) if purge else messages.THEN_PURGE)
        print(messages.REPRO)


@commands.command(cls=_Command)
@click.argument("name", required=False)
@click.argument("other", required=False)
def history(name: str | None, other: str | None) -> None:
    """List all runs, show what belongs to one, or compare two.

    NAME and OTHER are a run (the first digits of its id), an experiment or a commit. Of two, it
    says whether the score of the first is better or worse, or whether the samples cannot tell.
    """
    from pttfaces import mlflow_store  # takes seconds
    from pttfaces.report import history as texts
    from pttfaces.report import revisions

    if name is None:
        _print_lines(texts.table(mlflow_store.all_runs()))
        return
    known = revisions.all_revisions()
    found = [(each, revisions.find_revision(each, known)) for each in (name, other) if each]
    try:
        runs = mlflow_store.all_runs()
    except DataError as error:
        if not all(revision for _, revision in found):
            raise
        print(printable(f"warning: {error}"), file=sys.stderr)
        runs = []
    results = [(each, revision or texts.find_run(each, runs)) for each, revision in found]
    if other:
        _print_lines(texts.compare(results))
    elif isinstance(result := results[0][1], revisions.Revision):
        _print_lines(texts.describe_revision(result, runs))
    else:
        _print_lines(texts.describe_run(result, known))


@commands.command(cls=_Command)
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(port: int) -> None:
    """Start the MLflow UI on this machine, until Ctrl-C; print where this project's runs are."""
    import socket
    import subprocess

    from pttfaces import mlflow_store
    from pttfaces.http import LOOPBACK

    uri = mlflow_store.store_uri()
    if uri.startswith(("http:", "https:")):
        address = mlflow_store.without_password(uri)
        print(f"Open the server that MLFLOW_TRACKING_URI names: {address}")
        return
    try:
        socket.create_server((LOOPBACK, port)).close()
    except OSError:
        raise ParamsError(f"port {port} is in use; choose another: make ui PORT=5001.") from None
    with mlflow_store.explained():
        _, experiment = mlflow_store.open_store()
    runs = f"#/experiments/{experiment}/runs?workflowType=machine_learning"
    print(f"Open http://{LOOPBACK}:{port}/{runs} (Ctrl-C stops it).", flush=True)
    options = [
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--backend-store-uri",
        uri,
        "--workers",
        "1",
    ]
    server = subprocess.Popen([sys.executable, "-m", "mlflow", "ui", *options])
    try:
        sys.exit(server.wait())
    except KeyboardInterrupt:
        print("The MLflow UI has stopped.")
    finally:
        server.terminate()
        server.wait()


@commands.command(cls=_Command)
@click.option("--out", type=Path, default=Path("report.html"), help="Where to write the page.")
def report(out: Path) -> None:
    """Write report.html: the data, the training and the scores of all experiments on one page.

    The page needs no internet access. It shows training images: keep it private.
    """
    from pttfaces.report import page  # takes a second: matplotlib

    files.write_text(out, page.render())
    print(f"report: {out.resolve().as_uri()} ({out.stat().st_size / 2**20:.1f} MB)")


@commands.command(cls=_Command)
@click.argument("source", type=Path)
@click.argument("target", type=Path, required=False)
@click.option("--unpack", is_flag=True, help="Unpack a zip into a folder.")
@click.option(
    "--manifest", "list_images", is_flag=True, help="Only write the folder's manifest.csv."
)
def pack(source: Path, target: Path | None, unpack: bool, list_images: bool) -> None:
    """Pack a folder into a zip, unpack one, or list the images of your own data set.

    \b
    pttfaces pack data/dataset crops.zip             the same content gives the same bytes
    pttfaces pack --unpack crops.zip data/dataset    into a folder that is new or empty
    pttfaces pack --manifest data/dataset            the list that train reads
    """
    from pttfaces import archive, manifest

    if unpack and list_images:
        raise click.UsageError("--unpack and --manifest cannot be combined.")
    if list_images:
        if target:
            raise click.UsageError("--manifest takes one folder.")
        print(f"{source / manifest.NAME}: {manifest.write_manifest(source)} images")
        return
    if target is None:
        raise click.UsageError(
            "Give the folder to pack and the zip to write; with --unpack, the zip and a folder."
        )
    count = manifest.unpack_dataset(source, target) if unpack else archive.pack(source, target)
    print(f"{target}: {count} files from {source}")


@commands.command(cls=_Command)
@click.argument("first", type=Path)
@click.argument("second", type=Path, required=False)
@click.option("--save", type=Path, metavar="FILE", help="Write the statistics of FIRST to a .npz.")
def distance(first: Path, second: Path | None, save: Path | None) -> None:
    """Compute the distance between two sets of images, with the features of evaluate.

    FIRST and SECOND are folders of images, or .npz files of statistics as pytorch-fid reads them.
    The distance is FID with evaluate.features: inception. All images right in a folder count, as
    with pytorch-fid; but that leaves out endings in upper case, such as .JPG.

    \b
    pttfaces distance data/generated data/dataset/train
    pttfaces distance --save train.npz data/dataset/train
    """
    if (second is None) == (save is None):
        raise click.UsageError("Give either a second set of images or --save FILE.")
    if save and save.suffix != ".npz":
        raise click.UsageError(f"--save {save}: the file must be a .npz.")
    from pttfaces import workdir

    options = config.load().evaluate
    from pttfaces.evaluation import features, image_folder, metrics

    extractor = features.make_extractor(options, workdir.cache_dir("statistics"))
    absent = "name a folder with images, or a .npz of statistics"
    sets = [
        path if path.suffix == ".npz" else image_folder.open_folder(path, absent)
        for path in filter(None, (first, second))
    ]
    for images in sets:
        if isinstance(images, image_folder.ImageFolder) and images.skipped_by_pytorch_fid:
            print(
                f"note: pytorch-fid would leave out {images.skipped_by_pytorch_fid} of the "
                f"{len(images)} images in {images.folder}, whose endings are not in lower case.",
                file=sys.stderr,
            )
    if save:
        extractor.write_statistics(save, extractor.statistics(sets[0]))
        print(f"{save}: {options.dims} dimensions of {first}, {options.features}")
        if workdir.find_file(options.reference) == save:
            print("evaluate.reference names it; run `dvc repro --force --single-item evaluate`")
    else:
        value = metrics.distance(extractor, *sets)
        print(f"{extractor.distance_name}: {value:.8g}")


@commands.command(cls=_Command)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on loopback; 0: any free one."
)
def site(port: int) -> None:
    """Serve the embedded demo board for a browser, until Ctrl-C."""
    import threading

    from pttfaces.demo import site as demo_site
    from pttfaces.http import LOOPBACK

    params = config.load()
    with demo_site.serve_params(params, port) as served:
        address = f"http://{LOOPBACK}:{served}/bbs/{params.board.names[0]}/index.html"
        print(f"The demo board is at {address} (Ctrl-C stops it).", flush=True)
        try:
            while not threading.Event().wait(3600):
                pass
        except KeyboardInterrupt:
            print("The demo board has stopped.")


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(printable(line))  # titles and a shared store's names are untrusted text
