"""Turns a link to an image host into the addresses of the original images.

A rule takes a split URL and returns the images behind it. A new host is one entry in `RULES`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import SplitResult, parse_qs

EXTENSIONS = ("jpg", "jpeg", "jfif", "png", "gif", "webp", "avif")


@dataclass(frozen=True)
class HostedImage:
    """An image behind a link, or an album of images.

    addresses: where the image may be, to be tried in order; none where only the page behind the
    link has its address (an album); key: the same for all forms of a link to one image; kind: the
    form of the link: file, page, gifv, media or album; album: the address of the album's page, ""
    if the link is to an image.
    """

    addresses: tuple[str, ...]
    key: str
    kind: str
    album: str = ""


Rule = Callable[[SplitResult], list[HostedImage]]

_EXTENSION = re.compile(rf"\.({'|'.join(EXTENSIONS)})$", re.IGNORECASE)
_IMGUR_FILE = re.compile(r"/(?:download/)?([A-Za-z0-9]{5,10})(_d)?(?:\.([A-Za-z0-9]+))?/?")
_IMGUR_IDS = re.compile(r"/(?:[^/,.]*-)?((?:[A-Za-z0-9]{5,10},)*[A-Za-z0-9]{5,10})/?")
_IMGUR_ALBUM = re.compile(
    r"/(a|gallery|t/[^/]+|r/[^/]+)/(?:[^/]*-)?([A-Za-z0-9]{5,10})(?:/(?:all|embed|new|zip)?)?"
)
# Pages of imgur itself whose names look like an image's id.
_IMGUR_PAGES = frozenset(
    {"about", "apidocs", "account", "gallery", "memegen", "privacy", "random", "register"}
    | {"removal", "removed", "rules", "search", "signin", "signup", "topics", "upload", "vidgif"}
)
_IMGUR_SIZES = "sbtmlh"  # a letter after the id selects a smaller copy
_TWIMG = re.compile(r"/media/([A-Za-z0-9_-]+)(?:\.([A-Za-z]+))?(?::[a-z0-9]+)?")
_MEEE = re.compile(r"/([A-Za-z0-9]{5,12})(?:\.([A-Za-z]+))?/?")


def _imgur_original(name: str) -> str:
    # Ids have 5 or 7 characters; a sixth or eighth can only select a size.
    return name[:-1] if len(name) in (6, 8) and name[-1] in _IMGUR_SIZES else name


def _imgur_file(url: SplitResult) -> list[HostedImage]:
    match = _IMGUR_FILE.fullmatch(url.path)
    if not match or match[1] in _IMGUR_PAGES:
        return []
    # `_d` marks a copy for phones, WebP whatever the format of the original.
    extension = "jpg" if match[2] else (match[3] or "jpg").lower()
    kind = "gifv" if extension == "gifv" else "file"
    extension = "gif" if extension == "gifv" else extension
    if extension not in EXTENSIONS:
        return []  # a video
    name = _imgur_original(match[1])
    return [HostedImage((f"https://i.imgur.com/{name}.{extension}",), f"imgur:{name}", kind)]


def _imgur_page(url: SplitResult) -> list[HostedImage]:
    if album := _IMGUR_ALBUM.fullmatch(url.path):
        page = f"https://imgur.com/{'a' if album[1] == 'a' else 'gallery'}/{album[2]}"
        return [HostedImage((), f"imgur album:{album[2]}", "album", page)]
    if "." in url.path:
        return _imgur_file(url)
    match = _IMGUR_IDS.fullmatch(url.path)
    names = [name for name in match[1].split(",") if name not in _IMGUR_PAGES] if match else []
    return [HostedImage((f"https://i.imgur.com/{n}.jpg",), f"imgur:{n}", "page") for n in names]


def _twimg(url: SplitResult) -> list[HostedImage]:
    match = _TWIMG.fullmatch(url.path)
    if not match:
        return _by_extension(url)
    extension = (parse_qs(url.query).get("format", [""])[0] or match[2] or "jpg").lower()
    if extension not in EXTENSIONS:
        return []
    address = f"https://pbs.twimg.com/media/{match[1]}?format={extension}&name=orig"
    return [HostedImage((address,), f"twimg:{match[1]}", "media")]


def _meee(url: SplitResult) -> list[HostedImage]:
    match = _MEEE.fullmatch(url.path)
    if not match:
        return _file(url)
    name, extension = match[1], (match[2] or "jpg").lower()
    if extension not in EXTENSIONS:
        return []
    kind = "file" if match[2] else "page"
    return [HostedImage((f"https://i.meee.com.tw/{name}.{extension}",), f"meee:{name}", kind)]


def _file(url: SplitResult) -> list[HostedImage]:
    """A host of files only, where a query does not select another file."""
    if not _EXTENSION.search(url.path):
        return []
    address = f"https://{_host(url)}{url.path}"
    return [HostedImage((address,), address, "file")]


def _by_extension(url: SplitResult) -> list[HostedImage]:
    """Any other host: an image if the path ends like one, at its address as posted."""
    if not _EXTENSION.search(url.path):
        return []
    address = url._replace(netloc=url.netloc.lower(), fragment="").geturl()
    return [HostedImage((address,), address.partition(":")[2], "file")]


def _behind_page(url: SplitResult) -> list[HostedImage]:
    """A host whose page addresses do not contain the address of the image."""
    if len(url.path) < 2:
        return []
    return _file(url) or [HostedImage((), f"{_host(url)}{url.path}", "page")]


RULES: dict[str, Rule] = {
    "i.imgur.com": _imgur_file,
    "imgur.com": _imgur_page,
    "m.imgur.com": _imgur_page,
    "www.imgur.com": _imgur_page,
    "pbs.twimg.com": _twimg,
    "i.meee.com.tw": _meee,
    "meee.com.tw": _meee,
    "d.img.vision": _file,
    "i.ibb.co": _file,
    "ibb.co": _behind_page,
}


@dataclass(frozen=True)
class HostRules:
    """The table of image hosts, with aliases for some of them.

    aliases: host → the host in `RULES` whose links have the same form, such as the one it mirrors.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)

    def images_at(self, url: SplitResult) -> list[HostedImage]:
        """The images behind a link by the rule of its host; [] if it leads to something else."""
        host = _host(url)
        real = self.aliases.get(host)
        if real is None:
            return RULES.get(host, _by_extension)(url)
        images = RULES.get(real, _by_extension)(url._replace(netloc=real))
        return [self._to_alias(image) for image in images]

    def has(self, host: str) -> bool:
        """Whether there is a rule for a host."""
        return host in RULES or host in self.aliases

    def _to_alias(self, image: HostedImage) -> HostedImage:
        addresses = tuple(map(self._alias_address, image.addresses))
        return replace(image, addresses=addresses, album=self._alias_address(image.album))

    def _alias_address(self, url: str) -> str:
        """An address on a real host, moved to the host's alias."""
        aliases = {real: alias for alias, real in self.aliases.items()}
        parts = url.split("/", 3)
        if len(parts) == 4:
            parts[2] = aliases.get(parts[2], parts[2])
        return "/".join(parts)


def _host(url: SplitResult) -> str:
    return (url.hostname or "").lower().rstrip(".")
