"""Compares what two commits of this project compute: the check of a refactoring.

    python benchmarks/same_results.py BASE [--head HEAD] [--keep DIR] [--speed ROUNDS]
    python benchmarks/same_results.py BASE --base-results DIR/base

It clones both commits into a temporary folder, runs the demo in each (`dvc repro`, all stages) and
compares:

- crawl ... curate: every output of dvc.yaml byte by byte; metrics without seconds;
- train, generate, evaluate: weights and configurations byte by byte, pixels within 1/255, real
  numbers within 0.5 %, whole numbers and words exactly;
- MLflow: parameters; the names of metrics, tags, artifacts and registered models;
- what the page parsers of both commits read from the hostile pages of HEAD's tests.

The tables below name what a refactoring renames, adds or removes on purpose. Uncommitted changes do
not count. A run takes four minutes on two CPU cores. --keep leaves the two runs in DIR/base and
DIR/head; --base-results (--head-results) compares with such a run, which must be of the same
machine, environment and number of threads.

--speed also measures BASE and HEAD in pairs, in alternating order: the stages download, train
(three epochs) and generate from nothing, and the shares that `benchmarks/train.py overhead` of each
commit prints. Bounds: 1.05 times BASE's seconds (the median of the pairs' ratios), 5 percentage
points more of a share. The seconds need a quiet machine; the processor's seconds, which have no
bound, show whether the code or the machine is slower. `benchmarks/overhead.py` measures imports, an
idle `dvc repro` and `dvc status`.

Exit code: 0 all the same, 1 something differs or is over its bound, 2 a mistake in the command.
"""

import argparse
import asyncio
import csv
import dataclasses
import importlib
import inspect
import io
import json
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML

# Outputs with another path: BASE's -> HEAD's; "" for an output that HEAD no longer has.
FILES: dict[str, str] = {}
# Columns of tables (.csv, .jsonl) with another name; "" for a column that HEAD no longer has.
# A new name counts only where HEAD has it, so that a line can stay when BASE has it, too.
COLUMNS: dict[str, dict[str, str]] = {
    "data/crops.csv": {"blur": "sharpness"},
    "data/dataset.csv": {"blur": "sharpness"},
}
# The same for metrics (left_out.blurred) and for MLflow ("mlflow": params.seed, artifacts.a.png).
METRICS: dict[str, dict[str, str]] = {}
# What only HEAD has: the path of an output -> its new columns or metrics; () for a new output.
NEW: dict[str, tuple[str, ...]] = {
    "data/inbox": (),  # outputs of the stage inputs; BASE has these files without a stage
    "data/reference": (),
    "data/denylist.txt": (),
    "data/README.txt": (),
    "data/crops.csv": ("outside", "reason"),
    "metrics/crop.json": ("beyond_image",),
    "metrics/detect.json": ("left_out",),
}
# Images whose captions have other words: up to 1 % of their pixels may differ.
REWORDED = {"metrics/pictures/density.png", "metrics/pictures/nearest.png"}
# Columns and metrics that are not compared: speeds, and the digest of a model with its card.
IGNORED = {"seconds", "images_per_s", "model_digest"}
IGNORED_FILES = re.compile(r"README\.md$")  # the model card
# Where the parsers and the tests' pages are: the first place that a commit has.
PLACES = {
    "index": ["pttfaces.board.index_page:parse_index", "pttfaces.board.index:parse_index"],
    "article": [
        "pttfaces.board.article_page:parse_article",
        "pttfaces.board.articles:parse_article",
        "pttfaces.board.article:parse_article",
    ],
    "links": ["pttfaces.board.links:sort_links"],
    "rules": ["pttfaces.board.hosts:HostRules", "builtins:object"],  # what `links` also takes
    "routes": ["hostile.board:routes", "support.hostile.board:routes"],
    "host": ["hostile.board:BOARD", "support.hostile.board:BOARD"],
    "index_page": ["hostile.pages:index_page", "support.hostile.pages:index_page"],
    "article_page": ["hostile.pages:article_page", "support.hostile.pages:article_page"],
}
ODD_TAGS = (  # which the tests' hostile pages lack
    '<div class="r-ent"><div class="nrec">XX</div><div class="title"></div></div>',
    '<div class="r-ent"><div class="nrec"> X7 </div><div class="author">-</div></div>',
    '<a href="https://a.test/c.jpg_`^\\><|~*\'!?:;,.">',
    '<a href=" https://i.imgur.com/padded1.jpg\n">',
    '<a href="https://i.imgur.com/a.jpg,https://i.imgur.com/b.png)."><div class="push">',
    '<a href="/cdn-cgi/l/email-protection"><span data-cfemail="543531">[email&#160;protected]',
    '<a href="https://a.test/[email&#160;protected].jpg"><span data-cfemail="543531">x</span></a>',
    '<div class="article-metaline"><span class="article-meta-tag">標題</span>',
    '<span class="article-meta-value"> t時間: Thu Jun 14 20:27:24 2007</span></div>',
)
IMPORTED_FROM = ("src", ".", "tests", "tests/support")  # folders of a clone

PROJECT = Path(__file__).resolve().parents[1]
TOLERANT = {"train", "generate", "evaluate"}
TOLERANCE = 0.005
BOUND = 0.05
SIDES = ("base", "head")
TIMED = ("download", "train", "generate")


def stop(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr if code == 2 else sys.stdout)
    raise SystemExit(code)


# --- clones and runs


def environment() -> dict[str, str]:
    """What a clone's commands start with: this Python first, nothing of this checkout's."""
    drop = ("DVC_", "MLFLOW_", "GIT_", "MAKE", "MFLAGS", "PYTHONPATH", "PTTFACES_", "IMGUR_")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    return variables | {"PATH": path, "DVC_NO_ANALYTICS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


def call(clone: Path, *command: str | Path, given: str = "", path: str = "") -> str:
    """Standard output of a Python command in a clone; path: its PYTHONPATH."""
    start = [sys.executable, *command]
    variables = environment() | ({"PYTHONPATH": path} if path else {})
    ended = subprocess.run(
        start, cwd=clone, env=variables, input=given, capture_output=True, text=True
    )
    if ended.returncode:
        said = (ended.stdout + ended.stderr)[-3000:]
        stop(f"DIFFERS: `python {' '.join(map(str, command))}` fails in {clone}:\n{said}", 1)
    return ended.stdout


def git(*arguments: str | Path) -> str:
    command = ["git", *arguments]
    ended = subprocess.run(command, cwd=PROJECT, env=environment(), capture_output=True, text=True)
    if ended.returncode:
        stop(f"error: `git {' '.join(map(str, arguments))}` fails: {ended.stderr.strip()}", 2)
    return ended.stdout.strip()


def commit_of(name: str, clone: Path = PROJECT) -> str:
    found = git("-C", clone, "rev-list", "--max-count=1", "--ignore-missing", name, "--")
    return found or stop(f"error: {name} is not a commit of {clone}.", 2)


def stages(clone: Path) -> dict[str, Any]:
    return YAML(typ="safe").load((clone / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def check_imports(clone: Path) -> None:
    """Stops where a clone's commands import the modules of another folder."""
    program = "import pttfaces; print(pttfaces.__file__)"
    if not Path(call(clone, "-c", program, path=str(clone / "src")).strip()).is_relative_to(clone):
        stop(f"error: {sys.executable} does not import pttfaces from {clone}.", 2)


def run_demo(commit: str, clone: Path) -> None:
    """Clones a commit and runs every stage of its demo."""
    print(f"{commit[:9]}: running all stages", flush=True)
    started = time.perf_counter()
    git("clone", "--quiet", "--no-checkout", PROJECT, clone)
    git("-C", clone, "checkout", "--quiet", "--detach", commit)
    (clone / "dvc.lock").unlink(missing_ok=True)  # DVC skips the stages that it knows
    shutil.copy(clone / "presets/demo.yaml", clone / "params.yaml")
    check_imports(clone)
    if "inputs" not in stages(clone):
        call(clone, "src/inputs.py")
    said = call(clone, "-m", "dvc", "repro")
    for stage in stages(clone):
        if f"Running stage '{stage}'" not in said:
            stop(f"DIFFERS: `dvc repro` does not run the stage {stage} in {clone}", 1)
    print(f"{commit[:9]}: done in {time.perf_counter() - started:.0f} s", flush=True)


def check_run(commit: str, clone: Path) -> None:
    """Stops unless a kept clone has a finished run of the commit."""
    lock = clone / "dvc.lock"
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    if commit_of("HEAD", clone) != commit or "\n  evaluate:\n" not in text:
        stop(f"error: {clone} is no finished run of {commit[:9]}; leave it out.", 2)
    check_imports(clone)


# --- comparing; each function returns the first difference, or ""


def difference(base: Any, head: Any, tolerance: float, where: str = "") -> str:
    """Compares values of JSON; tolerance applies where one of two numbers is a real one."""
    if isinstance(base, list) and isinstance(head, list):
        base, head = dict(enumerate(base)), dict(enumerate(head))
    if isinstance(base, dict) and isinstance(head, dict):
        for key in [*base, *(key for key in head if key not in base)]:
            if key not in base or key not in head:
                return f"{where}{key} is only in {'HEAD' if key in head else 'BASE'}"
            if found := difference(base[key], head[key], tolerance, f"{where}{key}: "):
                return found
        return ""
    same = repr(base) == repr(head)
    if {type(base), type(head)} in ({float}, {float, int}) and tolerance:
        same = same or abs(base - head) <= tolerance * max(abs(base), abs(head))
    return "" if same else f"{where}{str(base)[:100]!r}, now {str(head)[:100]!r}"


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for part, inner in value.items()
        for key, leaf in flat(inner, f"{name}.{part}" if name else part).items()
    }


def records(path: str, content: bytes, tolerance: float) -> list[dict[str, Any]]:
    """A table's rows; the one record of a file of metrics."""
    text = content.decode("utf-8")
    if path.endswith(".json"):
        return [flat(json.loads(text))]
    if path.endswith(".jsonl"):
        return [json.loads(line) for line in text.split("\n") if line]
    number = re.compile(r"-?\d+(\.\d+(e[+-]\d+)?|e[+-]\d+)" if tolerance else "(?!)")
    header, *rows = csv.reader(io.StringIO(text, newline=""))
    cells = ([float(x) if number.fullmatch(x) else x for x in row] for row in rows)
    return [dict(zip(header, row, strict=False)) for row in cells]


def compare_records(
    path: str, base: list[dict[str, Any]], head: list[dict[str, Any]], tolerance: float
) -> str:
    """Compares tables or metrics under the maps of renamed, removed and new names."""
    here = {key for row in head for key in row}
    maps = (COLUMNS | METRICS).get(path, {})
    names = {old: new for old, new in maps.items() if old not in here}
    base = [{names.get(key, key): value for key, value in row.items()} for row in base]
    added = set(NEW.get(path, ())) - {key for row in base for key in row}

    def compared(row: dict[str, Any]) -> dict[str, Any]:
        out = {"", *added}
        return {k: v for k, v in row.items() if k not in out and k.split(".")[-1] not in IGNORED}

    return difference([*map(compared, base)], [*map(compared, head)], tolerance)


def compare_pixels(base: bytes, head: bytes, allowed: float) -> str:
    """allowed: the share of the pixels that may differ."""
    import numpy as np
    from PIL import Image

    before, after = (
        np.asarray(Image.open(io.BytesIO(x)).convert("RGBA"), int) for x in (base, head)
    )
    if before.shape != after.shape:
        return f"{before.shape} pixels, now {after.shape}"
    distances = np.abs(before - after).max(-1)
    if np.mean(distances > 1) <= allowed:
        return ""
    return f"pixels differ by up to {distances.max()}/255"


def compare_file(path: str, base: bytes, head: bytes, tolerance: float) -> str:
    if base == head:
        return ""
    table = path.endswith((".csv", ".jsonl"))
    if table or (path.startswith("metrics/") and path.endswith(".json")):
        rows = [records(path, content, tolerance) for content in (base, head)]
        found = compare_records(path, rows[0], rows[1], tolerance)
        if found or tolerance or not table:
            return found
        names = COLUMNS.get(path, {})
        if NEW.get(path) or "" in names.values() or (names and path.endswith(".jsonl")):
            return ""
        below = [content.partition(b"\n")[2] for content in (base, head)]  # below the header
        return "" if names and below[0] == below[1] else "equal values in other bytes"
    if tolerance and path.endswith(".png"):
        return compare_pixels(base, head, 0.01 if path in REWORDED else 0)
    at = next((n for n, (x, y) in enumerate(zip(base, head, strict=False)) if x != y), "the end")
    return f"bytes differ at {at}"


def contents(path: Path) -> dict[str, bytes]:
    """The files of an output: of a folder, of a zip archive, or itself as ""."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return {"": path.read_bytes()} if path.exists() else {}


def compare_output(base: Path, head: Path, path: str, tolerance: float) -> str:
    before, after = contents(base / path), contents(head / FILES.get(path, path))
    if not before or not after:
        return f"nothing is there in {'HEAD' if before else 'BASE'}"
    for name in sorted({*before, *after}):
        if IGNORED_FILES.search(name):
            continue
        if name not in before or name not in after:
            return f"{name} is only in {'BASE' if name in before else 'HEAD'}"
        whole = f"{path}/{name}" if name else path
        if found := compare_file(whole, before[name], after[name], tolerance):
            return f"{name}: {found}" if name else found
    return ""


def outputs(clone: Path) -> dict[str, str]:
    """Path of every output, metric and plot -> its stage."""
    found = {}
    for name, stage in stages(clone).items():
        for entry in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            found[entry if isinstance(entry, str) else next(iter(entry))] = name
    return found


def compare(base: Path, head: Path) -> Iterator[tuple[str, str]]:
    """(what, first difference or "") for everything that is compared."""
    before, after = outputs(base), outputs(head)
    for path, stage in before.items():
        if FILES.get(path, path):
            yield path, compare_output(base, head, path, TOLERANCE if stage in TOLERANT else 0.0)
    for path in after:
        if path not in before and path not in FILES.values() and NEW.get(path) != ():
            yield path, "a new output of HEAD, which NEW does not name"
    runs = [[flat(run) for run in json.loads(driver(clone, "tracked"))] for clone in (base, head)]
    yield "mlflow", compare_records("mlflow", runs[0], runs[1], 0.0)
    pages = driver(head, "pages")
    read = [json.loads(driver(clone, "read", pages)) for clone in (base, head)]
    for parser in read[0]:
        what = f"{parser} parser, {len(read[0][parser])} hostile pages"
        yield what, difference(read[0][parser], read[1][parser], 0.0)


# --- drivers: what runs inside a clone, with its modules


def driver(clone: Path, name: str, given: str = "") -> str:
    paths = os.pathsep.join(str(clone / folder) for folder in IMPORTED_FROM)
    return call(clone, "-P", __file__, "--driver", name, given=given, path=paths)


def resolve(name: str) -> Any:
    """The parser, or what the tests have, that a commit keeps in one of PLACES."""
    errors = []
    for where in PLACES[name]:
        module, _, attribute = where.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            errors.append(f"{where}: {error}")
    stop(f"{name} is at none of its PLACES in {Path.cwd()}; add where it is. {errors}", 1)


class Request:
    """What the tests' site takes for a request that comes after the question of age."""

    def __init__(self, path: str) -> None:
        self.path, self.number, self.headers = path, 1, {"cookie": "over18=1"}
        self.text = ""

    async def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.text = body.decode("utf-8-sig", errors="replace")


def pages() -> dict[str, str]:
    """Name -> text of every hostile page, of each one's half, and of 400 of shuffled tags."""
    handler = resolve("routes")()[resolve("host")]

    def asked(paths: list[str]) -> dict[str, str]:
        requests = [Request(path) for path in dict.fromkeys(paths)]
        for request in requests:
            asyncio.run(handler(request))
        return {request.path: request.text for request in requests}

    found = asked([f"/bbs/Beauty/index{number}.html" for number in (1, 2, 3)])
    links = re.findall(r'href="(/bbs/Beauty/[MG]\.[^"]*\.html)"', "".join(found.values()))
    found |= asked(links)
    wraps = (resolve("index_page"), resolve("article_page"))
    for wrap in wraps:
        for name, part in vars(sys.modules[wrap.__module__]).items():
            if name.isupper() and isinstance(part, str):
                found[f"{wrap.__name__}({name})"] = wrap(part)
    tags = sorted({f"<{tag}" for text in found.values() for tag in text[:20_000].split("<")})
    found |= {f"{name}, cut": text[: len(text) // 2] for name, text in found.items()}
    choose = random.Random(0)
    for number in range(200):
        content = "".join(choose.choices([*tags, *ODD_TAGS * 20], k=50))
        found |= {f"{wrap.__name__}, shuffled {number}": wrap(content) for wrap in wraps}
    return found


def plain(value: Any) -> Any:
    """A value as JSON has it; of a dataclass the values, not the names and order of its fields."""
    if dataclasses.is_dataclass(value):
        values = [plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
        return sorted(values, key=json.dumps)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def read() -> dict[str, dict[str, Any]]:
    """What each parser makes of each page of the standard input, or which error it raises."""
    texts: dict[str, str] = json.load(sys.stdin)
    index, article, links = resolve("index"), resolve("article"), resolve("links")
    url = "https://www.ptt.cc/bbs/Beauty/index.html"
    more = [resolve("rules")()] if "rules" in inspect.signature(links).parameters else []
    parsers: dict[str, Callable[[str], Any]] = {
        "index": lambda text: index(text, url),
        "article": lambda text: [article(text).status, article(text).links],
        "links": lambda text: links(article(text).links, url, *more),
    }

    def outcome(parse: Callable[[str], Any], text: str) -> Any:
        try:
            return plain(parse(text))
        except Exception as error:  # our own errors may have other names
            is_ours = type(error).__module__.startswith("pttfaces.")
            return f"raises {'an error of ours' if is_ours else repr(error)}"

    return {
        name: {page: outcome(parse, text) for page, text in texts.items()}
        for name, parse in parsers.items()
    }


def tracked() -> list[dict[str, Any]]:
    """MLflow's runs by their start, and the registered models."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/mlflow.db")

    def artifacts(run: str, folder: str | None = None) -> Iterator[str]:
        for entry in client.list_artifacts(run, folder):
            yield from artifacts(run, entry.path) if entry.is_dir else [entry.path]

    found: list[dict[str, Any]] = []
    for experiment in client.search_experiments(order_by=["name ASC"]):
        for run in client.search_runs([experiment.experiment_id], order_by=["start_time ASC"]):
            data = {"experiment": experiment.name, "params": run.data.params}
            names = {
                "metrics": run.data.metrics,
                "tags": [tag for tag in run.data.tags if not tag.startswith("mlflow.")],
                "artifacts": artifacts(run.info.run_id),
            }
            found.append(data | {kind: dict.fromkeys(some) for kind, some in names.items()})
    models = client.search_registered_models()
    return [*found, {"models": [[model.name, sorted(model.aliases)] for model in models]}]


# --- speed


def speed(base: Path, head: Path, rounds: int) -> bool:
    """Measures both in turn, in copies; returns whether HEAD is within the bounds."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        work = {".cache", ".resume", "mlruns", "mlflow.db"}  # a copy has paths of its own
        return (work | {"cache", "tmp"} if Path(folder).name == ".dvc" else work) & {*names}

    spent: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        copies = [Path(scratch) / side for side in SIDES]
        for clone, copy in zip((base, head), copies, strict=True):
            shutil.copytree(clone, copy, ignore=left_out, copy_function=shutil.copyfile)
            text = (copy / "params.yaml").read_text(encoding="utf-8")
            text = re.sub(r"^( +epochs:) \d+", r"\1 3", text, flags=re.MULTILINE)
            (copy / "params.yaml").write_text(text, encoding="utf-8")
        for number in range(rounds):
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                for what, value in time_round(copies[side]).items():
                    spent.setdefault(what, ([], []))[side].append(value)
    good = True
    for what, pair in spent.items():
        if not all(pair):  # a share that only one commit's benchmark prints
            print(f"speed of {what}: only in {'BASE' if pair[0] else 'HEAD'}")
            continue
        before, after = map(statistics.median, pair)
        ratios = [y / x for x, y in zip(*pair, strict=True)]
        ratio = statistics.median(ratios)
        over = (what in TIMED and ratio > 1 + BOUND) or (
            what.endswith("%") and after > before + 100 * BOUND
        )
        print(
            f"speed of {what}: {'OVER: ' if over else ''}{before:.2f}, now {after:.2f}, "
            f"{ratio:.3f} times (rounds: {min(ratios):.3f} to {max(ratios):.3f})"
        )
        good = good and not over
    return good


def time_round(copy: Path) -> dict[str, float]:
    """Seconds of each stage from nothing; the shares of `benchmarks/train.py overhead`, in %."""
    found = {}
    for stage in TIMED:
        mine = [path for path, name in outputs(copy).items() if name == stage]
        for path in (copy / name for name in (".cache", ".resume", *mine)):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        started, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        call(copy, f"src/{stage}.py")
        found[stage] = time.perf_counter() - started
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        found[f"{stage}, processor"] = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    said = call(copy, "benchmarks/train.py", "overhead", path=str(copy / "src"))
    shares = re.findall(r"^(\S.*?) +([\d.]+)% of (?:the clock|wall time)", said, re.MULTILINE)
    return found | {f"{what}, %": float(share) for what, share in shares}


def main() -> int:
    drivers: dict[str, Callable[[], Any]] = {"pages": pages, "read": read, "tracked": tracked}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", metavar="BASE", help="the commit before", nargs="?")
    parser.add_argument("--head", default="HEAD", help="the commit after (default: HEAD)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the runs in this folder")
    parser.add_argument("--base-results", type=Path, metavar="DIR", help="a kept run of BASE")
    parser.add_argument("--head-results", type=Path, metavar="DIR", help="a kept run of HEAD")
    parser.add_argument("--speed", type=int, default=0, metavar="ROUNDS", help="measure, too")
    parser.add_argument("--driver", choices=drivers, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.driver:
        print(json.dumps(drivers[options.driver]()))
        return 0
    if not options.base:
        parser.error("name the commit before, BASE")
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        commits = [commit_of(name) for name in (options.base, options.head)]
        results = [options.base_results, options.head_results]
        clones = [
            run.resolve() if run else folder / s for run, s in zip(results, SIDES, strict=True)
        ]
        for commit, clone, run in zip(commits, clones, results, strict=True):
            if run:
                check_run(commit, clone)
            elif clone.exists():
                stop(f"error: {clone} exists; name another folder for --keep.", 2)
        for commit, clone, run in zip(commits, clones, results, strict=True):
            if not run:
                run_demo(commit, clone)
        good = True
        for what, found in compare(clones[0], clones[1]):
            print(f"{what}: {f'DIFFERS: {found}' if found else 'same'}", flush=True)
            good = good and not found
        if options.speed:
            good = speed(clones[0], clones[1], options.speed) and good
    print("all the same" if good else "not the same")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
