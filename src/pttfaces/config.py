"""The typed schema of params.yaml: one class a group, every key with its range and its meaning.

`load` reads the file and either returns a `Params` whose every value is allowed, or raises a
ParamsError that names the key, what was found and what is allowed. Knows nothing of what the
parameters are used for.
"""

import datetime
import difflib
import reprlib
from collections.abc import Iterator
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


_SLOWEST = 0.001  # requests a second: a request in a quarter of an hour


def _with_a_host(url: str) -> str:
    """The URL itself; ValueError: its host or its port is none."""
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:
        raise ValueError("no host, or no port")
    return url


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class Demo(_Group):
    """The embedded board."""

    seed: int = Field(ge=0, le=2**31 - 1, description="moves everything that the demo shows")
    articles: int = Field(ge=3, le=5000, description="articles of the year that pass the filters")


class Board(_Group):
    """The board to list."""

    # Without a name and password: parameters are in git and in MLflow. Without a slash at its end:
    # DVC and the caches compare the text, and another spelling would list the same site again.
    base_url: Annotated[str, AfterValidator(_with_a_host)] = Field(
        pattern=r"^https?://[^/\s@?#]+$",
        description="scheme and host of the site, without a slash at its end",
    )
    name: str = Field(
        pattern=r"^[A-Za-z0-9_-]{1,20}$",
        description="the board's name: letters, digits, _ and -, 20 at most",
    )
    year: int = Field(ge=1995, le=2100, description="the year to list, in the board's own time")
    dates: list[Annotated[str, Field(pattern=r"^[0-9]{4}$")]] = Field(
        min_length=2, max_length=2, description="first and last day as MMDD, both inclusive"
    )
    min_nrec: Annotated[int, Field(ge=-100, le=100)] | None = Field(
        description="least popularity (爆 is 100, XX is -100); null leaves out blank ones"
    )
    rate_per_s: float = Field(ge=_SLOWEST, le=1000, description="most pages a second")


class Links(_Group):
    """Which links of an article count."""

    pushes: bool = Field(description="also take the links that readers posted in pushes")
    albums: Literal["page", "api", "leave"] = Field(
        description="how imgur's albums are opened: by their pages, by its API, or not at all"
    )


class Download(_Group):
    """How pictures are fetched."""

    concurrency: int = Field(ge=1, le=1024, description="pictures under way at once")
    per_host: int = Field(ge=1, le=1024, description="pictures under way at once from one host")
    rate_per_host: float = Field(
        ge=_SLOWEST, le=10000, description="most requests a second to one host"
    )
    attempts: int = Field(ge=1, le=20, description="tries before a link counts as failed")
    timeout_s: float = Field(gt=0, le=3600, description="most seconds for one try")
    max_mib: float = Field(gt=0, le=1024, description="largest file, in MiB")
    # Pillow refuses to decode more: twice its Image.MAX_IMAGE_PIXELS
    max_megapixels: float = Field(gt=0, le=178, description="largest picture, in megapixels")
    keep_truncated: bool = Field(description="keep pictures whose end is missing")


class Detect(_Group):
    """How faces are found."""

    detector: Literal["haar", "yunet", "retinaface"] = Field(description="the face detector")
    weights: str | None = Field(description="file of the detector's weights; null looks them up")
    faces: Literal["largest", "best", "all"] = Field(description="which faces of a picture count")
    threshold: Fraction = Field(description="least score of a face")
    min_size: int = Field(ge=8, le=4096, description="shortest side of a face's box, in pixels")
    max_side: int = Field(ge=64, le=8192, description="pictures are searched at this size at most")
    batch_size: int = Field(ge=1, le=1024, description="pictures that a GPU searches at once")


class Crop(_Group):
    """How faces are cut out."""

    size: int = Field(ge=32, le=1024, description="side of a crop, in pixels")
    face_factor: float = Field(gt=0, le=1, description="share of the crop that the face fills")
    padding: Literal["constant", "replicate", "reflect", "wrap", "reflect_101"] = Field(
        description="what fills a crop beyond the picture's edge"
    )
    allow_skew: bool = Field(description="shear faces, too, so that their landmarks fit better")


class Curate(_Group):
    """Which crops become training pictures."""

    holdout: float = Field(ge=0, le=0.5, description="share of the articles kept out of training")
    recrop: bool = Field(description="detect and crop once more at image_size, as the original did")
    duplicate_bits: int = Field(
        ge=0, le=128, description="crops look alike if at most so many of 256 hash bits differ"
    )
    min_face_px: Annotated[float, Field(ge=0)] | None = Field(
        description="least size of a face in its picture, in pixels; null asks for none"
    )
    max_upscale: Annotated[float, Field(gt=0)] | None = Field(
        description="most enlargement from picture to crop; null allows any"
    )
    min_brightness: Annotated[float, Field(ge=0, le=255)] | None = Field(
        description="least mean grey value of a crop; null asks for none"
    )
    max_brightness: Annotated[float, Field(ge=0, le=255)] | None = Field(
        description="greatest mean grey value of a crop; null allows any"
    )
    max_yaw: Annotated[float, Field(ge=0, le=180)] | None = Field(
        description="most degrees that a head is turned aside; null allows any"
    )
    max_pitch: Annotated[float, Field(ge=0, le=90)] | None = Field(
        description="most degrees that a head is turned up or down; null allows any"
    )
    min_score: Fraction | None = Field(
        description="least score of the detector; null asks for none"
    )


class Model(_Group):
    """The network, a diffusers UNet2DModel."""

    channels: list[Annotated[int, Field(ge=8, le=2048)]] = Field(
        min_length=2, max_length=8, description="channels of each level, from full size down"
    )
    layers_per_block: int = Field(ge=1, le=8, description="residual layers a level")
    attention: list[bool] = Field(
        min_length=2, max_length=8, description="self-attention at each level"
    )
    dropout: float = Field(ge=0, lt=1, description="dropout inside the residual layers")


class Train(_Group):
    """The training recipe."""

    timesteps: int = Field(ge=2, le=10000, description="steps of the noise schedule")
    epochs: int = Field(ge=1, le=100000, description="passes over the training pictures")
    batch_size: int = Field(ge=1, le=65536, description="pictures a batch, all devices together")
    gradient_accumulation: int = Field(ge=1, le=4096, description="batches a weight update")
    learning_rate: float = Field(gt=0, le=1, description="AdamW's peak learning rate")
    lr_schedule: Literal["cosine", "linear", "constant"] = Field(
        description="course of the learning rate after the warm-up"
    )
    warmup_steps: int = Field(ge=0, le=10**7, description="updates of rising learning rate")
    max_grad_norm: float = Field(gt=0, description="gradients are clipped to this norm")
    precision: Literal["fp32", "fp16", "bf16"] = Field(description="arithmetic on a GPU")
    compile: bool = Field(description="compile the network on a GPU, where that is possible")
    prediction: Literal["epsilon", "v_prediction"] = Field(description="what the network predicts")
    zero_terminal_snr: bool = Field(description="rescale the schedule so that it ends in noise")
    min_snr_gamma: Annotated[float, Field(gt=0)] | None = Field(
        description="gamma of the min-SNR loss weights; null weighs all timesteps alike"
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        description="decay of the averaged weights; null averages none"
    )
    flip: bool = Field(description="mirror half of the pictures")
    select_by: Literal["train_loss", "val_loss"] = Field(description="what makes a model the best")
    early_stop: Annotated[int, Field(ge=1)] | None = Field(
        description="epochs without a better model that end the training; null trains them all"
    )
    sample_every: int = Field(ge=1, description="epochs between sample grids")
    sample_images: int = Field(ge=1, le=256, description="pictures in a sample grid")
    checkpoint_every: int = Field(ge=1, description="epochs between checkpoints")
    keep_checkpoints: int = Field(ge=0, description="checkpoints kept, the newest ones")
    save_every_minutes: float = Field(gt=0, description="most minutes of work that a kill may cost")
    # `register` itself is taken: a method of the metaclass of pydantic's models
    register_model: bool = Field(
        alias="register", description="register the next training's model in MLflow"
    )

    @property
    def images_per_update(self) -> int:
        """Images of a weight update, all devices and accumulated batches together."""
        return self.batch_size * self.gradient_accumulation


class Generate(_Group):
    """How pictures are sampled."""

    num_images: int = Field(ge=1, le=10**7, description="pictures to sample")
    batch_size: int = Field(ge=1, le=65536, description="pictures sampled at once")
    sampler: Literal["ddpm", "ddim", "dpmsolver++"] = Field(description="the sampler")
    timestep_spacing: Literal["leading", "trailing", "linspace"] = Field(
        description="which of the training timesteps are used"
    )


class Evaluate(_Group):
    """How samples are scored."""

    features: Literal["inception", "random"] = Field(
        description="inception gives FID and needs its weights; random needs none"
    )
    dims: Literal[64, 192, 768, 2048] = Field(description="dimensions of the features")
    weights: str | None = Field(description="file of Inception's weights; null looks them up")
    weights_sha256: str | None = Field(
        pattern=r"^[0-9a-f]{8,64}$",
        description="first digits of that file's SHA-256; null: it has to be pytorch-fid's",
    )
    reference: str = Field(
        pattern=r"^(train|holdout|reference|.+\.npz)$",
        description="train, holdout, reference (data/reference/), or a .npz file of statistics",
    )
    batch_size: int = Field(ge=1, le=65536, description="pictures read at once")
    repeats: int = Field(ge=1, le=100, description="sampling seeds that the distance is taken over")
    max_copied: float = Field(
        ge=0, le=1, description="share of samples that may be copies before evaluate warns"
    )
    detector: Literal["haar", "yunet", "retinaface"] = Field(
        description="the detector that judges face_rate"
    )
    detector_weights: str | None = Field(description="file of that detector's weights")


class Params(_Group):
    """params.yaml."""

    source: Literal["demo", "ptt", "inbox"] = Field(description="where pictures come from")
    seed: int = Field(ge=0, le=2**31 - 1, description="moves training and sampling, not the data")
    image_size: int = Field(ge=8, le=512, description="side of a training picture, in pixels")
    blur_threshold: float = Field(ge=0, description="least variance of the Laplacian of a crop")
    noise_schedule: Literal["linear", "cosine"] = Field(description="course of the noise")
    infer_steps: int = Field(ge=1, le=10000, description="sampling steps a picture")
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
        """All values under their dotted keys, as params.yaml names them."""
        return files.flatten(self.model_dump(by_alias=True))

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.infer_steps > self.train.timesteps:
            raise _misfit(
                "infer_steps", self.infer_steps, f"1 to train.timesteps, {self.train.timesteps}"
            )
        if len(self.model.attention) != len(self.model.channels):
            raise _misfit(
                "model.attention",
                self.model.attention,
                f"one true or false for each of the {len(self.model.channels)} model.channels",
            )
        factor = 2 ** (len(self.model.channels) - 1)
        if self.image_size % factor:
            raise _misfit(
                "image_size",
                self.image_size,
                f"multiples of {factor}, for {len(self.model.channels)} levels of model.channels",
            )
        if self.image_size > self.crop.size:
            raise _misfit("image_size", self.image_size, f"at most crop.size, {self.crop.size}")
        if self.train.zero_terminal_snr and self.train.prediction != "v_prediction":
            raise _misfit(
                "train.zero_terminal_snr", True, "false, or true with train.prediction v_prediction"
            )
        if self.train.select_by == "val_loss" and not self.curate.holdout:
            raise _misfit("train.select_by", "val_loss", "train_loss while curate.holdout is 0")
        if self.evaluate.weights_sha256 and not self.evaluate.weights:
            raise _misfit(
                "evaluate.weights_sha256",
                self.evaluate.weights_sha256,
                "null, or the digest of the file that evaluate.weights names",
            )
        if self.evaluate.reference == "holdout" and not self.curate.holdout:
            raise _misfit("evaluate.reference", "holdout", "train while curate.holdout is 0")
        first, last = (self._day(text) for text in self.board.dates)
        if first > last:
            raise _misfit("board.dates", self.board.dates, "a first day that is not after the last")
        return self

    def _day(self, text: str) -> datetime.date:
        try:
            return datetime.date(self.board.year, int(text[:2]), int(text[2:]))
        except ValueError:
            raise _misfit(
                "board.dates", text, f"days of the year {self.board.year} as MMDD"
            ) from None


def load(path: str | Path = "params.yaml") -> Params:
    """Reads and checks a file of parameters; ParamsError says what is wrong and what is allowed."""
    return check(read(path), str(path))


def read(path: str | Path) -> Any:
    """The plain values of a YAML file; see `parse`."""
    try:
        return parse(Path(path).read_bytes().decode(), str(path))
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist; `pttfaces preset demo` writes one.") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _no_yaml(f"{path}, line {line}", "not UTF-8") from None


def parse(text: str, name: str = "params.yaml") -> Any:
    """The plain values of YAML 1.2, as DVC reads it (so 1e-4 is a number); no tags."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise _no_yaml(name + where, error.problem or "damaged") from None
    # Of the library's own reading of values: 2024-13-01 is no date, 9999 digits no number
    except (YAMLError, ValueError, LookupError, RecursionError) as error:
        raise _no_yaml(name, str(error).partition("\n")[0]) from None


def _no_yaml(where: str, what: str) -> ParamsError:
    return ParamsError(
        f"{where} is not plain YAML ({what}); mend it, or start again with `pttfaces preset demo`."
    )


def check(values: Any, name: str = "params.yaml") -> Params:
    """Plain values as `Params`; ParamsError has one sentence for each value that is not allowed."""
    if not isinstance(values, dict):
        raise ParamsError(f"{name} should hold `key: value` lines; `pttfaces preset demo` does.")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        sentences = [f"{name}: {_sentence(problem)}" for problem in error.errors()]
        raise ParamsError("\n       ".join(sentences)) from None


def describe() -> list[tuple[str, str, str]]:
    """Every key of params.yaml with what it may be and what it means, in the file's order."""

    def rows(properties: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
        for name, schema in properties.items():
            if "$ref" in schema:
                yield from rows(_resolve(schema)["properties"], f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", _kind(schema), schema["description"]

    return list(rows(_SCHEMA["properties"], ""))


class _MisfitError(ValueError):
    """Two keys that do not go together."""


def _misfit(key: str, found: Any, allowed: str) -> _MisfitError:
    return _MisfitError(f"{key} is {found!r}; allowed is {allowed}.")


def _sentence(problem: Any) -> str:
    if isinstance(problem.get("ctx", {}).get("error"), _MisfitError):
        return str(problem["ctx"]["error"])
    path = [str(part) for part in problem["loc"]]
    key, schema = _locate(path)
    if problem["type"] == "missing":
        return f"{key} is missing; add it ({_allowed(schema)})."
    if problem["type"] == "invalid_key":  # a number
        path[-1] = str(problem["input"])
    if problem["type"] in ("extra_forbidden", "invalid_key"):
        siblings = list(_group_at(path[:-1]).get("properties", {}))
        near = difflib.get_close_matches(path[-1], siblings, 1)
        hint = (
            f"did you mean {'.'.join([*path[:-1], near[0]])}?"
            if near
            else f"known are {', '.join(siblings)}."
        )
        return f"{'.'.join(path)} is not a known key; {hint}"
    return f"{key} is {_shown(problem['input'])}; allowed is {_allowed(schema)}."


def _shown(value: Any) -> str:
    """A value for a sentence: YAML's aliases make lists of lists that would fill any memory."""
    shortener = reprlib.Repr()
    shortener.maxlevel, shortener.maxlist, shortener.maxdict = 2, 10, 4
    shortener.maxstring = shortener.maxother = shortener.maxlong = 100
    return shortener.repr(value)


def _group_at(path: list[str]) -> dict[str, Any]:
    return _locate(path)[1] if path else _SCHEMA


def _locate(path: list[str]) -> tuple[str, dict[str, Any]]:
    """The dotted key of an error's place and the JSON schema of that key's value."""
    schema, key = _SCHEMA, ""
    for part in path:
        if part.isdigit():
            key += f"[{part}]"
            continue  # an element of a list: what its list allows says it all
        if part not in schema.get("properties", {}) and key and "properties" not in schema:
            continue  # pydantic's name of a branch of a union, no key of the file
        schema = schema.get("properties", {}).get(part, {})
        schema = _resolve(schema)
        key += f".{part}" if key else part
    return key, schema


def _resolve(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself, or the group that it refers to."""
    return _SCHEMA["$defs"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def _allowed(schema: dict[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    text = _kind(schema)
    meaning = schema.get("description", "").rstrip(".")  # a group's is its docstring
    return f"{text}: {meaning}" if meaning else text


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    if "enum" in schema:
        return "one of " + ", ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        low, high = schema.get("minItems"), schema.get("maxItems")
        count = f"{low} values" if low == high else f"{low} to {high} values"
        return f"a list of {count}, each {_kind(schema['items'])}"
    if "properties" in schema:
        return "a group of " + ", ".join(schema["properties"])
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "null": "null",
        "string": "text",
    }
    text = words.get(schema.get("type", ""), "a value")
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    bounds = [
        f"from {_figure(low)}" if low is not None else "",
        f"above {_figure(above)}" if above is not None else "",
        f"to {_figure(high)}" if high is not None else "",
        f"below {_figure(below)}" if below is not None else "",
    ]
    return " ".join([text, *filter(None, bounds)])


def _figure(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


_SCHEMA: dict[str, Any] = Params.model_json_schema()
