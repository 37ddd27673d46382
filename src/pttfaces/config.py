"""The typed schema of params.yaml: one class per group, every key with its range and meaning.

`load` reads the file and returns a `Params`, or raises a ParamsError that names the key, its value
and what is expected. `python -m pttfaces.config` prints the table of docs/parameters.md.
"""

import datetime
import difflib
import ipaddress
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pttfaces import files
from pttfaces.errors import ParamsError

Fraction = Annotated[float, Field(ge=0, le=1)]
NoiseScheduleName = Literal["linear", "cosine"]
Prediction = Literal["epsilon", "v_prediction"]
SamplerName = Literal["ddpm", "ddim", "dpmsolver++"]
BoardName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,20}$")]
Year = Annotated[int, Field(ge=1995, le=2100)]
Padding = Literal["constant", "replicate", "reflect", "wrap", "reflect_101"]
Precision = Literal["fp32", "fp16", "bf16"]

_MIN_RATE = 0.001  # requests per second: one request in a quarter of an hour


def _check_host(url: str) -> str:
    """Returns the URL; ValueError: it has no host, or the port 0."""
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:
        raise ValueError("no host, or port 0")
    return url


def _check_network(text: str) -> str:
    """Returns the network; ValueError: it is not one in CIDR notation."""
    ipaddress.ip_network(text)
    return text


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class Demo(_Group):
    """The embedded board."""

    seed: int = Field(ge=0, le=2**31 - 1, description="seed of everything the demo shows")
    articles: int = Field(ge=3, le=5000, description="number of articles that pass the filters")


class Board(_Group):
    """The board to list."""

    # No user name and password: parameters are stored in git and in MLflow. No trailing slash: DVC
    # and the caches compare the text, and another spelling would list the same site again.
    base_url: Annotated[str, AfterValidator(_check_host)] = Field(
        pattern=r"^https?://[^/\s@?#]+$",
        description="scheme and host of the site, without a trailing slash",
    )
    name: BoardName | Annotated[list[BoardName], Field(min_length=1, max_length=100)] = Field(
        description="name of the board (letters, digits, _ and -, at most 20), or a list of names"
    )
    year: Year | Annotated[list[Year], Field(min_length=2, max_length=2)] = Field(
        description="year to list, in the board's time zone, or the first and the last year"
    )
    dates: list[Annotated[str, Field(pattern=r"^[0-9]{4}$")]] = Field(
        min_length=2,
        max_length=2,
        description="first and last day of each year as MMDD, both inclusive",
    )
    min_nrec: Annotated[int, Field(ge=-100, le=100)] | None = Field(
        description="minimum popularity (爆 is 100, XX is -100); null: no minimum, but rows "
        "without a popularity are dropped"
    )
    rate_per_s: float = Field(ge=_MIN_RATE, le=1000, description="maximum pages per second")

    @property
    def names(self) -> list[str]:
        """The boards, in the order in which they are listed."""
        return [self.name] if isinstance(self.name, str) else self.name

    @property
    def years(self) -> range:
        """The years, oldest first."""
        first, last = (self.year, self.year) if isinstance(self.year, int) else self.year
        return range(first, last + 1)


class Links(_Group):
    """Which links of an article count."""

    pushes: bool = Field(description="include links in pushes (readers' comments below an article)")
    albums: Literal["page", "api", "leave"] = Field(
        description="how to open imgur albums: by their page, by the API, or not at all"
    )
    pages: bool = Field(
        description="open pages of single images on known hosts, and follow short links"
    )


class Download(_Group):
    """How images are downloaded."""

    concurrency: int = Field(ge=1, le=1024, description="maximum parallel downloads")
    per_host: int = Field(
        ge=1,
        le=1024,
        description="maximum parallel downloads from one site: a registered domain such as "
        "imgur.com, with all its hosts",
    )
    rate_per_host: float = Field(
        ge=_MIN_RATE, le=10000, description="maximum requests per second to one site"
    )
    attempts: int = Field(ge=1, le=20, description="attempts before a link counts as failed")
    timeout_s: float = Field(gt=0, le=3600, description="timeout of an attempt, in seconds")
    max_mib: float = Field(gt=0, le=1024, description="maximum file size, in MiB")
    # Pillow refuses to decode more than twice its Image.MAX_IMAGE_PIXELS
    max_megapixels: float = Field(gt=0, le=178, description="maximum image size, in megapixels")
    keep_truncated: bool = Field(description="keep images whose end is missing")
    placeholders: list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] = Field(
        description="SHA-256 (64 hex digits) of images that hosts give in place of removed ones, "
        "beside imgur's"
    )
    allow_networks: list[Annotated[str, AfterValidator(_check_network)]] = Field(
        description="networks that may be connected to although they are not public, in CIDR "
        "notation, such as 198.18.0.0/15"
    )

    @property
    def max_bytes(self) -> int:
        """Largest file, in bytes."""
        return int(self.max_mib * 2**20)


class Detect(_Group):
    """How faces are found."""

    detector: Literal["haar", "yunet", "retinaface"] = Field(description="face detector")
    weights: str | None = Field(description="the detector's weights file; null: download it once")
    faces: Literal["largest", "best", "all"] = Field(
        description="which faces of an image to use; largest: of those with a score near the best"
    )
    threshold: Fraction = Field(description="minimum score of a face")
    min_size: int = Field(ge=8, le=4096, description="minimum side of a face's box, in pixels")
    max_side: int = Field(
        ge=64, le=8192, description="larger images are shrunk to this side, in pixels"
    )
    turns: bool = Field(
        description="find people who lie, too: search images without a sure face in their quarter "
        "turns, and turn tilted faces upright to place their landmarks"
    )
    batch_size: int = Field(ge=1, le=1024, description="images per batch on a GPU")


class Crop(_Group):
    """How faces are cropped."""

    size: int = Field(ge=32, le=1024, description="side of a crop, in pixels")
    face_factor: float = Field(gt=0, le=1, description="fraction of the crop that the face fills")
    padding: Padding = Field(description="how to fill a crop beyond the edge of the image")
    allow_skew: bool = Field(description="also shear faces, for a closer fit of their landmarks")


class Curate(_Group):
    """Which crops become training images."""

    holdout: float = Field(ge=0, le=0.5, description="fraction of the crops held out, by article")
    recrop: bool = Field(description="detect and crop again at image_size, as the original did")
    recrop_threshold: Fraction | None = Field(
        description="minimum score of a face when it is detected again; null: detect.threshold"
    )
    recrop_padding: Padding | None = Field(
        description="how to fill what is cropped again; null: crop.padding"
    )
    sharpness_at: Literal["crop", "image_size"] = Field(
        description="where blur_threshold's sharpness is measured: on the whole crop at 256 "
        "pixels, as the original did, or inside the face at image_size"
    )
    duplicate_bits: Annotated[int, Field(ge=0, le=64)] | None = Field(
        description="copies differ in at most this many of 256 hash bits; null: keep copies"
    )
    max_outside: Fraction | None = Field(
        description="maximum fraction of a crop that lies outside its image; null: no limit"
    )
    identity: Literal["none", "sface"] = Field(
        description="network that recognizes the same person in several crops, none of whom is "
        "then on both sides of the split"
    )
    identity_weights: str | None = Field(
        description="that network's weights file; null: download it once"
    )
    same_person: Fraction = Field(
        description="cosine of two crops' features from which on they show the same person"
    )
    max_per_person: Annotated[int, Field(ge=1)] | None = Field(
        description="maximum crops of one person, the sharpest ones; null: no limit"
    )
    min_face_px: Annotated[float, Field(ge=0)] | None = Field(
        description="minimum size of a face in its image, in pixels; null: no limit"
    )
    max_upscale: Annotated[float, Field(gt=0)] | None = Field(
        description="maximum enlargement from image to crop; null: no limit"
    )
    min_brightness: Annotated[float, Field(ge=0, le=255)] | None = Field(
        description="minimum mean grey value of a crop; null: no limit"
    )
    max_brightness: Annotated[float, Field(ge=0, le=255)] | None = Field(
        description="maximum mean grey value of a crop; null: no limit"
    )
    max_yaw: Annotated[float, Field(ge=0, le=180)] | None = Field(
        description="maximum turn of the head to either side, in degrees; null: no limit"
    )
    max_pitch: Annotated[float, Field(ge=0, le=90)] | None = Field(
        description="maximum turn of the head up or down, in degrees; null: no limit"
    )
    min_score: Fraction | None = Field(description="minimum score of the detector; null: no limit")


class Model(_Group):
    """The network, a diffusers UNet2DModel."""

    channels: list[Annotated[int, Field(ge=8, le=2048)]] = Field(
        min_length=2, max_length=8, description="channels of each level, from full resolution down"
    )
    layers_per_block: int = Field(ge=1, le=8, description="residual layers per level")
    attention: list[bool] = Field(
        min_length=2, max_length=8, description="self-attention at each level"
    )
    dropout: float = Field(ge=0, lt=1, description="dropout inside the residual layers")


class Train(_Group):
    """The training recipe."""

    timesteps: int = Field(ge=2, le=10000, description="timesteps of the noise schedule")
    epochs: int = Field(ge=1, le=100000, description="passes over the training images")
    batch_size: int = Field(ge=1, le=65536, description="images per batch, all devices together")
    gradient_accumulation: int = Field(ge=1, le=4096, description="batches per weight update")
    learning_rate: float = Field(gt=0, le=1, description="AdamW's peak learning rate")
    lr_schedule: Literal["cosine", "linear", "constant"] = Field(
        description="learning rate schedule after the warm-up"
    )
    warmup_steps: int = Field(ge=0, le=10**7, description="weight updates of warm-up")
    max_grad_norm: float = Field(gt=0, description="gradients are clipped to this norm")
    precision: Precision = Field(description="precision on a GPU")
    compile: bool = Field(description="compile the network on a GPU, if possible")
    prediction: Prediction = Field(description="what the network predicts")
    zero_terminal_snr: bool = Field(description="rescale the schedule to end in pure noise")
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = Field(
        description="gamma of the min-SNR loss weights; null: equal weights"
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="decay of the exponential moving average of the weights; null: none"
    )
    flip: bool = Field(description="mirror half of the images")
    select_by: Literal["train_loss", "val_loss"] = Field(
        description="loss that picks the best model"
    )
    early_stop: Annotated[int, Field(ge=1)] | None = Field(
        description="stop after this many epochs without a better model; null: never"
    )
    sample_every: int = Field(ge=1, description="epochs between sample grids")
    sample_images: int = Field(ge=1, le=256, description="images in a sample grid")
    checkpoint_every: int = Field(ge=1, description="epochs between checkpoints")
    keep_checkpoints: int = Field(ge=0, description="number of newest checkpoints to keep")
    save_every_minutes: float = Field(gt=0, description="minutes between saves of the training")
    resume: Literal["same", "any"] = Field(
        description="an unfinished training resumes on the same kind of device, with the same "
        "precision, processes, threads and libraries; or on any"
    )
    # `register` is a method of the metaclass of pydantic's models
    register_model: bool = Field(
        alias="register", description="register the next training's model in MLflow"
    )

    @property
    def images_per_update(self) -> int:
        """Images of a weight update, all devices and accumulated batches together."""
        return self.batch_size * self.gradient_accumulation


class Generate(_Group):
    """How images are sampled."""

    num_images: int = Field(ge=1, le=10**7, description="number of images to sample")
    batch_size: int = Field(ge=1, le=65536, description="images per batch")
    sampler: SamplerName = Field(description="sampling algorithm")
    timestep_spacing: Literal["leading", "trailing", "linspace"] = Field(
        description="which of the training timesteps ddpm and ddim visit"
    )
    precision: Precision = Field(description="precision of the network on a GPU")


class Evaluate(_Group):
    """How samples are scored."""

    features: Literal["inception", "torchvision", "random"] = Field(
        description="inception gives FID and needs weights; torchvision's weights give another "
        "distance; random needs none"
    )
    dims: Literal[64, 192, 768, 2048] = Field(description="dimensions of the features")
    weights: str | None = Field(description="Inception's weights file; null: download it once")
    weights_sha256: str | None = Field(
        pattern=r"^[0-9a-f]{8,64}$",
        description="first digits of that file's SHA-256; null: the published file",
    )
    reference: str = Field(
        pattern=r"^(train|holdout|reference|.+\.npz)$",
        description="train, holdout, reference (data/reference/), or a .npz file of statistics",
    )
    batch_size: int = Field(ge=1, le=65536, description="images per batch")
    repeats: int = Field(ge=1, le=100, description="number of sampling seeds to score")
    max_copied: float = Field(
        ge=0, le=1, description="fraction of copies among the samples above which evaluate warns"
    )
    detector: Literal["haar", "yunet", "retinaface"] = Field(
        description="face detector for face_rate"
    )
    detector_weights: str | None = Field(
        description="the detector's weights file; null: download it once"
    )

    def face_detector(self, min_size: int) -> Detect:
        """The options of the detector for face_rate; min_size: of a face, in pixels."""
        return Detect.model_construct(
            detector=self.detector,
            weights=self.detector_weights,
            faces="all",
            threshold=0.0,
            min_size=min_size,
            turns=False,
            max_side=640,
            batch_size=8,
        )


class Params(_Group):
    """params.yaml."""

    source: Literal["demo", "ptt", "inbox"] = Field(description="where images come from")
    seed: int = Field(
        ge=0,
        le=2**31 - 1,
        description="seed of training and sampling, not of the data",
    )
    image_size: int = Field(ge=8, le=512, description="side of a training image, in pixels")
    blur_threshold: float = Field(
        ge=0, description="minimum sharpness, as curate.sharpness_at measures it"
    )
    noise_schedule: NoiseScheduleName = Field(description="noise schedule")
    infer_steps: int = Field(ge=1, le=10000, description="sampling steps per image")
    demo: Demo
    board: Board
    links: Links
    download: Download
    detect: Detect
    crop: Crop
    curate: Curate
    model: Model
    train: Train
    generate: Generate
    evaluate: Evaluate

    def flat(self) -> dict[str, Any]:
        """Dotted key, as in params.yaml → value."""
        return files.flatten(self.model_dump(by_alias=True))

    def recrop_options(self) -> tuple[Detect, Crop]:
        """How faces are detected and cropped again on the crops (curate.recrop)."""
        again = self.curate
        threshold, padding = again.recrop_threshold, again.recrop_padding
        detect = {} if threshold is None else {"threshold": threshold}
        crop = {"size": self.image_size, "padding": padding or self.crop.padding}
        return self.detect.model_copy(update=detect), self.crop.model_copy(update=crop)

    def warnings(self) -> list[str]:
        """Sentences on what is allowed, since published recipes have it, but known to be worse."""
        train, found = self.train, []
        if train.zero_terminal_snr and train.prediction == "epsilon":
            found.append(
                "train.zero_terminal_snr with train.prediction epsilon: at the last timestep the "
                "network gets pure noise and learns to copy it, which says nothing of the image; "
                "sampling skips such timesteps. v_prediction has no such gap."
            )
        if train.prediction == "epsilon" and self.generate.sampler != "ddpm":
            found.append(
                f"generate.sampler {self.generate.sampler} with train.prediction epsilon: the "
                "network's error of the image is largest where sampling starts, and a sampler that "
                "adds no noise keeps it, unless the network is trained for long; ddpm corrects it, "
                "and v_prediction has none."
            )
        if train.select_by == "train_loss":
            found.append(
                "train.select_by train_loss: an epoch's training loss depends on the timesteps "
                "that were drawn more than on the model; val_loss compares epochs at fixed noise "
                "(it needs curate.holdout above 0)."
            )
        return found

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.infer_steps > self.train.timesteps:
            raise _combination(
                "infer_steps", self.infer_steps, f"1 to train.timesteps, {self.train.timesteps}"
            )
        if len(self.model.attention) != len(self.model.channels):
            raise _combination(
                "model.attention",
                self.model.attention,
                f"one true or false for each of the {len(self.model.channels)} model.channels",
            )
        factor = 2 ** (len(self.model.channels) - 1)
        if self.image_size % factor:
            raise _combination(
                "image_size",
                self.image_size,
                f"a multiple of {factor}, for {len(self.model.channels)} levels of model.channels",
            )
        if self.image_size > self.crop.size:
            raise _combination(
                "image_size", self.image_size, f"at most crop.size, {self.crop.size}"
            )
        if self.train.select_by == "val_loss" and not self.curate.holdout:
            raise _combination(
                "train.select_by", "val_loss", "train_loss while curate.holdout is 0"
            )
        if self.curate.max_per_person is not None and self.curate.identity == "none":
            raise _combination(
                "curate.max_per_person",
                self.curate.max_per_person,
                "null while curate.identity is none",
            )
        if self.evaluate.weights_sha256 and not self.evaluate.weights:
            raise _combination(
                "evaluate.weights_sha256",
                self.evaluate.weights_sha256,
                "null, or the digest of the file evaluate.weights",
            )
        if self.evaluate.reference == "holdout" and not self.curate.holdout:
            raise _combination("evaluate.reference", "holdout", "train while curate.holdout is 0")
        if not self.board.years:
            raise _combination(
                "board.year", self.board.year, "a first year that is not after the last year"
            )
        if len(set(self.board.names)) < len(self.board.names):
            raise _combination("board.name", self.board.name, "each board once")
        for year in self.board.years:
            for day in self.board.dates:
                _check_day(year, day)
        if self.board.dates[0] > self.board.dates[1]:
            raise _combination(
                "board.dates", self.board.dates, "a first day that is not after the last day"
            )
        return self


def _check_day(year: int, day: str) -> None:
    """ValueError: the year has no such day, MMDD."""
    try:
        datetime.date(year, int(day[:2]), int(day[2:]))
    except ValueError:
        raise _combination("board.dates", day, f"a day of {year} as MMDD") from None


def load(path: str | Path = "params.yaml") -> Params:
    """Reads and validates a file of parameters; ParamsError: what is wrong and what is expected."""
    return check(read(path), str(path))


def read(path: str | Path) -> Any:
    """Reads a YAML file; see `parse`."""
    try:
        return parse(Path(path).read_bytes().decode(), str(path))
    except FileNotFoundError:
        raise ParamsError(
            f"{path} does not exist here; change to the project's folder, or write one with "
            "`pttfaces preset demo`."
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _not_yaml(f"{path}, line {line}", "not UTF-8") from None


def parse(text: str, name: str = "params.yaml") -> Any:
    """Parses YAML 1.2 without tags, as DVC does: 1e-4 is a number. ParamsError: it is not YAML."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _not_yaml(name + where, error.problem or "damaged") from None
    # The library raises these for values such as 2024-13-01, or a number of 9,999 digits.
    except (YAMLError, ValueError, LookupError, RecursionError) as error:
        raise _not_yaml(name, str(error).partition("\n")[0]) from None


def _not_yaml(where: str, reason: str) -> ParamsError:
    return ParamsError(
        f"{where} is not plain YAML ({reason}); fix it, or copy presets/demo.yaml over it."
    )


def check(values: Any, name: str = "params.yaml") -> Params:
    """Validates plain values; ParamsError has one sentence for each wrong value."""
    if not isinstance(values, dict):
        raise ParamsError(f"{name} has no `key: value` lines; copy presets/demo.yaml over it.")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        sentences = list(dict.fromkeys(f"{name}: {_sentence(each, values)}" for each in problems))
        if any(each["type"] == "missing" for each in problems):
            sentences.append(
                "`pttfaces preset NAME --keep` adds a preset's values for missing keys."
            )
        raise ParamsError("\n       ".join(sentences)) from None


_TYPES = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "string": "a string",
    "null": "null",
}
_BOUNDS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
}


def describe() -> list[tuple[str, str, str]]:
    """(key, allowed values, meaning) of every key of params.yaml, in the file's order."""
    schema, rows = Params.model_json_schema(), []
    for name, value in schema["properties"].items():
        group = value.get("$ref", "").removeprefix("#/$defs/")
        keys = schema["$defs"][group]["properties"] if group else {"": value}
        for key, one in keys.items():
            rows.append((f"{name}.{key}".rstrip("."), _allowed(one), one["description"]))
    return rows


def _allowed(schema: dict[str, Any]) -> str:
    """The allowed values of a key, from its JSON schema."""
    if "anyOf" in schema:
        return ", or ".join(map(_allowed, schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if schema["type"] == "array":
        if "minItems" not in schema:
            return f"a list, each {_allowed(schema['items'])}"
        low, high = schema["minItems"], schema["maxItems"]
        count = f"{low} values" if low == high else f"{low} to {high} values"
        return f"a list of {count}, each {_allowed(schema['items'])}"
    limits = [f"{word} {schema[key]:.15g}" for key, word in _BOUNDS.items() if key in schema]
    if schema.keys() >= {"minimum", "maximum"}:
        limits = [f"from {schema['minimum']:.15g} to {schema['maximum']:.15g}"]
    return f"{_TYPES[schema['type']]} {' and '.join(limits)}".rstrip()


def markdown_table() -> str:
    """The keys of params.yaml as the Markdown table of docs/parameters.md."""
    cells = [
        ("key", "allowed", "meaning"),
        ("---", "---", "---"),
        *((f"`{key}`", allowed, meaning) for key, allowed, meaning in describe()),
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def _combination(key: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{key} is {value!r}; expected {expected}.")


def _sentence(problem: Any, values: dict[Any, Any]) -> str:
    """One of pydantic's problems in order: the key, what was found, what is allowed."""
    message = problem["msg"].removeprefix("Value error, ")
    place, found = problem["loc"], problem["input"]
    if not place:  # of _check_combinations, which names the key itself
        return message
    if any(isinstance(part, str) for part in place[2:]):  # a type that the value might have had
        place, found = place[:2], values[place[0]][place[1]]
    key = ".".join(map(str, place))
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        near = difflib.get_close_matches(key, _EXPECTED, 1)
        hint = f"did you mean {near[0]}?" if near else "docs/parameters.md lists all keys."
        return f"{key} is not a known key; {hint}"
    shown = "missing" if problem["type"] == "missing" else _SHORTENER.repr(found)
    return f"{key} is {shown}; {_EXPECTED.get(key, message)}."


_EXPECTED = {key: f"expected {allowed}: {meaning}" for key, allowed, meaning in describe()}
_SHORTENER = reprlib.Repr()  # YAML aliases can expand to more than the memory holds
_SHORTENER.maxlevel, _SHORTENER.maxstring = 2, 100

if __name__ == "__main__":
    print(markdown_table(), end="")
