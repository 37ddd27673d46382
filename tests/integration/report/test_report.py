"""The report: one complete file that escapes text from outside."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
from repository import PROJECT, Repository, put, ran

from pttfaces.report import page, svg

pytestmark = pytest.mark.timeout(900)


class Page(HTMLParser):
    """What a browser would fetch, run and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.identities: list[str] = []
        self.images: list[str] = []  # by their alternative texts
        self.shown = ""
        self.cells: list[str] = []  # texts between tags
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attributes:
            if key in ("src", "href", "xlink:href", "srcset", "poster", "data"):
                self.fetched.append(value or "")
            if key == "alt":
                self.images.append(value or "")
            if key == "id":
                self.identities.append(value or "")

    def handle_data(self, data: str) -> None:
        self.shown += data
        self.cells.append(data.strip())


def test_report_without_a_network_shows_every_part_and_every_experiment(light: Repository) -> None:
    light.ok("dvc", "exp", "run", "--name", "a<img&b", "-S", "infer_steps=5")
    light.ok("git", "checkout", "--quiet", ".")
    light.ok("dvc", "checkout")
    put(light.path / "params.yaml", {"board.rate_per_s": "<script>alert(1)</script>$x$"})
    said = light.ok("python", "-m", "pttfaces", "report")
    light.ok("git", "checkout", "--quiet", ".")
    path = light.path / "report.html"
    assert path.resolve().as_uri() in said
    text = path.read_text(encoding="utf-8")
    page = Page(text)

    assert all(place.startswith(("data:image/", "#")) for place in page.fetched)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "script" not in page.tags
    assert "<script>alert(1)</script>$x$" in page.shown  # as text
    assert "a<img&b" in page.shown
    parts = {"funnel", "data", "training", "samples", "scores", "nearest", "settings"}
    assert parts <= set(page.identities)
    assert {place[1:] for place in page.fetched if place.startswith("#")} >= parts
    funnel = [str(light.metrics("curate")["train"]), str(light.metrics("links")["links"])]
    for figure in (*funnel, "55random feature distance", "70random feature distance"):
        assert figure in page.shown
    assert "epoch 2" in page.shown
    assert page.shown.count("sampling steps") == 2  # distance and time over the steps
    assert sum(place.startswith("data:image/webp") for place in page.fetched) == len(page.images)
    results = {name for name in page.images if name.startswith("Samples of ")}
    results.remove("Samples of the best model")
    assert {"Samples of this folder", "Samples of a<img&b"} <= results  # the 2nd from the cache
    assert len(page.images) - len(results) == 7  # 2 sheets, 2 grids, samples, nearest, density
    assert light.ok("git", "status", "--porcelain") == ""


def test_report_of_a_new_model_omits_score_and_samples_of_the_old_one(
    light: Repository,
) -> None:
    put(light.path / "params.yaml", {"noise_schedule": "linear", "seed": 7})
    assert ran(light.ok("dvc", "repro", "train")) == ["train"]
    light.ok("python", "-m", "pttfaces", "report")
    shown = Page((light.path / "report.html").read_text(encoding="utf-8"))
    model = light.metrics("train")["model_digest"]
    light.ok("git", "checkout", "--quiet", ".")
    light.ok("dvc", "checkout")

    assert model in shown.shown
    assert "noise_schedulelinear" in shown.shown
    assert "seed7" in shown.shown  # which evaluate has as 0 in dvc.lock
    names = [name for name in shown.images if name.startswith("Samples of ")]
    assert names
    assert not {"Samples of this folder", "Samples of the best model"} & set(names)
    assert "nearest" not in shown.identities
    assert "density" not in shown.images


@pytest.mark.parametrize(
    "settings",
    [{"generate.timestep_spacing": "leading"}, {"generate.num_images": 8}],
    ids=["spacing", "number"],
)
def test_report_of_new_samples_omits_score_and_row_of_the_old_ones(
    light: Repository, settings: dict[str, object]
) -> None:
    """As after a Ctrl-C in evaluate."""
    put(light.path / "params.yaml", settings)
    assert ran(light.ok("dvc", "repro", "generate")) == ["generate"]
    light.ok("python", "-m", "pttfaces", "report")
    shown = Page((light.path / "report.html").read_text(encoding="utf-8"))
    light.ok("git", "checkout", "--quiet", ".")
    light.ok("dvc", "checkout")

    assert "Samples of the best model" in shown.images
    assert "Samples of this folder" not in shown.images
    score = "55random feature distance"  # the commit's row has it, and nothing to compare it with
    assert shown.shown.count(score) > 0
    assert not {"better", "worse", "cannot tell"} & set(shown.cells)
    assert "nearest" not in shown.identities


def test_report_shows_the_settings_that_the_stages_ran_with(folder: Path) -> None:
    put(folder / "params.yaml", {"noise_schedule": "linear", "infer_steps": 7, "train.register": 0})
    shown = page_of_folder()
    assert "noise_schedulecosine" in shown
    assert "infer_steps20" in shown
    assert "train.register0" in shown  # noted for no stage
    assert "<td>cosine" in page.render()


def test_report_without_a_validation_loss_marks_the_training_loss(folder: Path) -> None:
    path = folder / "metrics/train.json"
    figures = json.loads(path.read_text()) | {"train_loss": 0.25, "val_loss": 0.5}
    path.write_text(json.dumps(figures))
    assert "0.5000" in page_of_folder()
    assert "(training)" not in page_of_folder()
    path.write_text(json.dumps(figures | {"val_loss": None}))
    assert "0.2500 (training)" in page_of_folder()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project's own figures and dvc.lock; no git, no images."""
    (tmp_path / "metrics").mkdir()
    for path in (PROJECT / "metrics").glob("*.json"):
        shutil.copy(path, tmp_path / "metrics")
    shutil.copy(PROJECT / "dvc.lock", tmp_path)
    shutil.copy(PROJECT / "presets/demo.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def page_of_folder() -> str:
    return Page(page.render()).shown


def test_histogram_of_crops_without_any_sharpness_draws_them() -> None:
    def drawn(*crops: int) -> str:
        return svg.histogram("sharpness", "variance", [0.0, 6.25, 12.5, 25.0], crops, 100.0)

    assert drawn(24, 0, 0, 30) != drawn(0, 0, 0, 30) == drawn(0, 0, 0, 30)


def test_report_before_the_first_run_exits_with_2_and_says_so(light: Repository) -> None:
    empty = light.path / "empty"
    empty.mkdir()
    (empty / "dvc.yaml").touch()
    source = str(light.path / "src")
    ended = Repository(empty).run("python", "-m", "pttfaces", "report", PYTHONPATH=source)
    shutil.rmtree(empty)
    assert ended.returncode == 2
    assert "there is nothing to report yet" in ended.stderr


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
WIDER = """() => {
    const limit = document.documentElement.clientWidth;
    const scrolled = element => element.closest('.scroll') !== null;
    return [...document.body.querySelectorAll('*')]
        .filter(element => !scrolled(element))
        .filter(element => element.getBoundingClientRect().right > limit + 0.5)
        .map(element => element.outerHTML.slice(0, 80));
}"""
CONTRAST = """() => {
    const style = getComputedStyle(document.body);
    const light = text => text.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0);
    return [light(style.backgroundColor), light(style.color)];
}"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt install chromium)")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser_fits_the_screen_without_an_error(
    light: Repository, scheme: Literal["light", "dark"], width: int
) -> None:
    """A phone's width and a desktop's; wide tables and sheets scroll in themselves."""
    sync_api = pytest.importorskip("playwright.sync_api")
    light.ok("python", "-m", "pttfaces", "report")
    errors: list[str] = []
    with sync_api.sync_playwright() as playwright:
        # Without its sandbox, which needs rights that a container's root lacks: the page is ours.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(
            viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True
        )
        view.on("console", lambda message: errors.append(message.text))
        view.on("pageerror", lambda error: errors.append(str(error)))
        view.on("requestfailed", lambda request: errors.append(request.url))
        view.goto((light.path / "report.html").resolve().as_uri())
        for part in view.locator("details > summary").all():
            part.click()
        images = view.evaluate("Promise.all([...document.images].map(image => image.decode()))")
        assert len(images) >= 6
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        assert view.evaluate(WIDER) == []
        background, ink = view.evaluate(CONTRAST)
        assert (background > ink) == (scheme == "light")
        browser.close()
    assert errors == []


def test_every_heading_of_the_report_is_followed_by_a_sentence(light: Repository) -> None:
    light.ok("python", "-m", "pttfaces", "report")
    text = (light.path / "report.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h2[^>]*>([^<]+)</h2>\s*(<p>[^<]+\.)?", text)
    assert len(headings) >= 8
    assert [title for title, sentence in headings if not sentence] == []
