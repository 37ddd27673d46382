"""Turns a link to an image host into the addresses where the image may be.

`RULES` is the table of hosts: an entry is a pattern for links and the addresses to try. A new host
is one entry (docs/hosts.md). Links to all other hosts lead to an image if they look like one.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from urllib.parse import SplitResult, parse_qsl, urlsplit

# Longest first, for patterns. Not all of them are formats that stages read: the ledger says so.
EXTENSIONS = (
    *("jpeg", "jfif", "webp", "avif", "heic", "heif", "tiff", "apng"),
    *("jpg", "jpe", "png", "gif", "bmp", "tif", "jxl"),
)
# Not followed by a letter: it would be the beginning of a word, such as .gifs.
_EXTENSION = rf"(?P<ext>(?i:{'|'.join(EXTENSIONS)}))(?![a-z])"
_NAME_END = r"(?![\w-]|[./]\w)"
_POSTED = "{posted}"
_MAX_NESTED = 3  # addresses in each other's queries
_FILE = re.compile(rf"\.{_EXTENSION}", re.ASCII)
_IN_QUERY = re.compile(rf"(?:^|[&=.]){_EXTENSION}(?:&|$)", re.ASCII)
_SLASHES = re.compile(r"(?<!:)/{2,}")


@dataclass(frozen=True)
class HostedImage:
    """An image behind a link, or a page that leads to images.

    addresses: where the image may be, to be tried in order; none where only the page behind the
    link has its address; key: the same for all forms of a link to one image; kind: the form of the
    link, see `Rule`; page: the address of the page to open, "" if the link leads to an image.
    """

    addresses: tuple[str, ...]
    key: str
    kind: str
    page: str = ""


@dataclass(frozen=True)
class Rule:
    r"""Links of one form, and the addresses behind them.

    hosts: names of hosts, separated by blanks; one with a leading dot stands for all names that end
    so, and `www.` needs no entry. pattern: a regular expression for the beginning of a link's path
    and query; what comes after it is text that was attached to the link. `\.<ext>` in it stands for
    an image's extension, in lower case for the templates.

    addresses: templates of the addresses to try, in order, separated by blanks and without
    https://, with the pattern's named groups, {host} and {posted}, the link as posted; where the
    group `id` has commas, each part is an image. key: template of `HostedImage.key`; "": the first
    address. kind: of links, for metrics/links.json: file (ends like an image), page (of one image),
    gifv, media, album, short (leads elsewhere). page: template of the address of the page that
    leads to the image, where there are no addresses: album pages are opened if links.albums says
    so, others by links.pages.
    """

    hosts: str
    pattern: str
    addresses: str = ""
    key: str = ""
    kind: str = "file"
    page: str = ""


def _each(template: str, *extensions: str) -> str:
    return " ".join(f"{template}.{extension}" for extension in extensions)


_IMGUR = "imgur.com i.imgur.com m.imgur.com imgur.io i.imgur.io m.imgur.io"
_ID = r"[A-Za-z0-9]{5,10}"
_IMAGE_ID = r"(?P<id>[A-Za-z0-9]{7}|[A-Za-z0-9]{5})"
_SLUG = r"(?:[\w%-]*-)?"  # words of a title before an id
_ALBUM = rf"{_SLUG}(?P<id>{_ID})(?:\.<ext>|/(?:all|embed|new|zip))?"
# Pages of imgur itself whose names look like an image's id.
_OTHER_PAGES = (
    r"(?!(?:about|account|apidocs|gallery|memegen|privacy|random|register|removal|removed|rules|"
    r"search|signin|signup|topics|upload|vidgif)(?!\w))"
)
_TWIMG = "pbs.twimg.com/media/{id}?format="
_MEEE = "meee.com.tw i.meee.com.tw"
_FILE_HOSTS = (
    "d.img.vision i.ibb.co i.postimg.cc images2.imgbox.com iili.io ppt.cc files.catbox.moe "
    "youpic.com cdn.youpic.com pic.pimg.tw images.plurk.com upload.cc ibb.co uc.udn.com.tw"
)

# Of several entries for a host the first that matches counts.
RULES = (
    # imgur serves an image under every extension. Ids have 5 or 7 characters: a further one selects
    # a smaller copy, `_d` a copy for phones.
    Rule(_IMGUR, rf"/a/{_ALBUM}", key="imgur album:{id}", kind="album", page="imgur.com/a/{id}"),
    Rule(
        _IMGUR,
        rf"/(?:gallery|t/[^/?]+|r/[^/?]+)/{_ALBUM}",
        key="imgur album:{id}",
        kind="album",
        page="imgur.com/gallery/{id}",
    ),
    Rule(_IMGUR, rf"/{_IMAGE_ID}[sbtmlh]?_d(?:\.\w+)?", "i.imgur.com/{id}.jpg", "imgur:{id}"),
    Rule(
        _IMGUR,
        rf"/(?:download/)?{_IMAGE_ID}(?P<size>[sbtmlh])\.<ext>",
        "i.imgur.com/{id}.{ext} i.imgur.com/{id}{size}.{ext}",
        "imgur:{id}",
    ),
    Rule(_IMGUR, rf"/(?:download/)?(?P<id>{_ID})\.<ext>", "i.imgur.com/{id}.{ext}", "imgur:{id}"),
    Rule(_IMGUR, rf"/(?P<id>{_ID})\.gifv", "i.imgur.com/{id}.gif", "imgur:{id}", kind="gifv"),
    Rule(
        _IMGUR,
        rf"/{_OTHER_PAGES}{_SLUG}(?P<id>(?:{_ID},)*{_ID})",
        "i.imgur.com/{id}.jpg",
        "imgur:{id}",
        kind="page",
    ),
    # Twitter has the original in the format of the upload; others are made from it, if at all.
    Rule(
        "pbs.twimg.com",
        r"/media/(?P<id>[\w-]+)(?:\.png|\?(?:[^#]*&)?format=png)",
        f"{_TWIMG}png&name=orig {_TWIMG}jpg&name=orig {_POSTED}",
        "twimg:{id}",
        kind="media",
    ),
    Rule(
        "pbs.twimg.com",
        r"/media/(?P<id>[\w-]+)(?:\.<ext>)?",
        f"{_TWIMG}jpg&name=orig {_TWIMG}png&name=orig {_POSTED}",
        "twimg:{id}",
        kind="media",
    ),
    Rule(_MEEE, r"/(?P<id>[A-Za-z0-9]{5,12})\.<ext>", "i.meee.com.tw/{id}.{ext}", "meee:{id}"),
    Rule(
        _MEEE,
        r"/(?P<id>[A-Za-z0-9]{5,12})",
        _each("i.meee.com.tw/{id}", "jpg", "jpeg", "png", "gif", "webp"),
        "meee:{id}",
        kind="page",
    ),
    # Smaller copies; the original's address follows from theirs.
    Rule("i.ibb.co iili.io", r"/(?P<name>[^?]+)\.(?:md|th)\.<ext>", "{host}/{name}.{ext} {posted}"),
    Rule(
        "images.plurk.com",
        r"/(?:mx_)?tn_(?P<id>[\w-]+)\.<ext>",
        _each("images.plurk.com/{id}", "jpg", "png", "gif") + " {posted}",
        "plurk:{id}",
    ),
    Rule(
        "images.plurk.com",
        r"/(?:mx_)?(?P<id>[\w-]+)\.<ext>",
        "images.plurk.com/{id}.{ext} {posted}",
        "plurk:{id}",
    ),
    Rule(  # other sizes, the original among them, have another secret in their name
        ".staticflickr.com",
        r"/(?P<name>[\w/-]*?/(?P<id>\d+)_[0-9a-f]+)(?:_[a-z])?\.(?P<ext>jpg)(?<!_[okhf]\.jpg)",
        "{host}/{name}_b.jpg {posted}",
        "flickr:{id}",
    ),
    Rule(
        ".staticflickr.com",
        r"/(?P<name>[\w/-]*?/(?P<id>\d+)_\w+)\.<ext>",
        "{host}/{name}.{ext}",
        "flickr:{id}",
    ),
    Rule(
        ".sinaimg.cn",
        r"/[a-z]+\d*/(?P<id>\w+)\.<ext>",
        "{host}/large/{id}.{ext} {posted}",
        "sina:{id}",
    ),
    Rule(
        "preview.redd.it i.redd.it",
        r"/(?:[\w%-]*-v0-)?(?P<id>\w+)\.<ext>",
        "i.redd.it/{id}.{ext} {posted}",
        "reddit:{id}",
    ),
    Rule(
        "gyazo.com i.gyazo.com",
        r"/(?P<id>[0-9a-f]{32})(?:\.<ext>)?",
        _each("i.gyazo.com/{id}", "jpg", "png", "gif"),
    ),
    Rule(
        "drive.google.com",
        r"/(?:file/d/|(?:open|uc|thumbnail)\?(?:[^#]*&)?id=)(?P<id>[\w-]{20,})(?:/\w+)?",
        "drive.google.com/uc?export=download&id={id}",
        kind="page",
    ),
    # An archive's copy as it was saved; the address behind it is the one that is dead.
    Rule(
        "web.archive.org",
        r"/web/(?P<time>\d{4,14})/(?=[^?]*\.<ext>)(?P<url>https?:/.*)",
        "web.archive.org/web/{time}im_/{url} {posted}",
    ),
    # Hosts of files, whose queries select no other file.
    Rule(_FILE_HOSTS, r"/(?P<name>[^?]+)\.<ext>", "{host}/{name}.{ext}"),
    # Hosts whose pages have the image's address.
    Rule(
        "ibb.co postimg.cc postimg.org imgbox.com",
        r"/(?P<id>(?:(?:album|gallery|image|g)/)?[A-Za-z0-9]{5,})(?:/\w*)?",
        kind="page",
        page="{host}/{id}",
    ),
    Rule(
        "flickr.com",
        r"/photos/(?P<user>[\w@-]+)/(?P<id>\d+)(?:/[\w/-]*)?",
        kind="page",
        page="www.flickr.com/photos/{user}/{id}/",
    ),
    Rule(
        ".pixnet.net",
        r"/album/photo/(?P<id>\d+)(?:-[^/?]*)?",
        kind="page",
        page="{host}/album/photo/{id}",
    ),
    Rule("freeimage.host", r"/i/(?P<id>[\w.-]+)", kind="page", page="freeimage.host/i/{id}"),
    Rule(
        "ppt.cc reurl.cc bit.ly tinyurl.com pse.is is.gd t.co flic.kr",
        r"/(?P<id>(?:p/)?[\w-]{4,})",
        kind="short",
        page="{host}/{id}",
    ),
)


@dataclass(frozen=True)
class HostRules:
    """The table of image hosts, with aliases for some of them.

    aliases: host → the host in `RULES` whose links have the same form, such as the one it mirrors.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)

    def images_at(self, url: SplitResult) -> list[HostedImage]:
        """The images behind a link; [] if it leads to something else."""
        host = host_of(url)
        if host not in self.aliases:
            return _images_at(url, host, _MAX_NESTED)
        real = self.aliases[host]
        images = _images_at(url._replace(netloc=real), real, _MAX_NESTED)
        return [
            replace(
                image,
                addresses=tuple(map(self._to_aliases, image.addresses)),
                page=self._to_aliases(image.page),
            )
            for image in images
        ]

    def name_of(self, host: str) -> str:
        """The name under which the table has a host, such as .pixnet.net; "" for any other."""
        if host in self.aliases:
            return host
        return next((name for _, rule in _rules_of(host) for name in _names(host, rule)), "")

    def _to_aliases(self, address: str) -> str:
        """An address on a real host, moved to the host's alias."""
        for alias, real in self.aliases.items():
            address = address.replace(f"://{real}/", f"://{alias}/", 1)
        return address


def host_of(url: SplitResult) -> str:
    """The host's name in lower case, without a dot at its end."""
    return (url.hostname or "").lower().rstrip(".")


def image_at(address: str, kind: str) -> HostedImage:
    """An address that is known to be an image's, whatever it looks like."""
    return HostedImage((address,), _without_scheme(address), kind)


@lru_cache(4096)
def _rules_of(host: str) -> tuple[tuple[re.Pattern[str], Rule], ...]:
    return tuple((_compile(rule.pattern), rule) for rule in RULES if any(_names(host, rule)))


def _names(host: str, rule: Rule) -> Iterator[str]:
    """The names of a rule's hosts that stand for a host."""
    host = host.removeprefix("www.")
    names = rule.hosts.split()
    return (h for h in names if h == host or (h.startswith(".") and host.endswith(h)))


@cache
def _compile(pattern: str) -> re.Pattern[str]:
    end = "" if pattern.endswith("<ext>") else _NAME_END
    return re.compile(pattern.replace(r"\.<ext>", rf"\.{_EXTENSION}") + end, re.ASCII)


def _images_at(url: SplitResult, host: str, nested: int) -> list[HostedImage]:
    """nested: how many addresses in each other's queries to look into."""
    path = _SLASHES.sub("/", url.path) if "//" in url.path else url.path
    text = f"{path}?{url.query}" if url.query else path
    for pattern, rule in _rules_of(host):
        if match := pattern.match(text):
            return list(_by_rule(rule, match, host, url))
    return _in_query(url, nested) or _by_form(url)


def _by_rule(
    rule: Rule, match: re.Match[str], host: str, url: SplitResult
) -> Iterator[HostedImage]:
    groups = match.groupdict() | {"host": host.removeprefix("www.")}
    groups["ext"] = (groups.get("ext") or "").lower()
    if _POSTED in rule.addresses:
        groups["posted"] = _as_posted(url)
    page = rule.page and f"https://{rule.page.format(**groups)}"
    for part in (groups.get("id") or "").split(","):
        groups["id"] = part
        templates = (t if t == _POSTED else f"https://{t}" for t in rule.addresses.split())
        addresses = tuple(dict.fromkeys(template.format(**groups) for template in templates))
        key = rule.key.format(**groups) or _without_scheme(addresses[0] if addresses else page)
        yield HostedImage(addresses, key, rule.kind, page)


def _in_query(url: SplitResult, nested: int) -> list[HostedImage]:
    """The images of an address in a link's query, such as a resizing service's."""
    if not nested or "http" not in url.query.lower():
        return []
    for _, value in parse_qsl(url.query):
        if value.lower().startswith(("http://", "https://")):
            try:
                inner = urlsplit(value)
                images = _images_at(inner, host_of(inner), nested - 1)
            except ValueError:  # not a URL
                continue
            if len(images) == 1 and images[0].addresses:
                addresses = tuple(dict.fromkeys((_as_posted(url), *images[0].addresses)))
                return [replace(images[0], addresses=addresses)]
            if images:
                return images
    return []


def _by_form(url: SplitResult) -> list[HostedImage]:
    """Any other host: an image if the path or the query has an image's extension.

    What follows the extension of a path is probably text that was attached to the link.
    """
    end = max((match.end() for match in _FILE.finditer(url.path)), default=0)
    if not end and not _IN_QUERY.search(url.query):
        return []
    addresses = [_as_posted(url)]
    if end and end < len(url.path):
        addresses.insert(0, _as_posted(url._replace(path=url.path[:end], query="")))
        if not url.path[end:].strip("/"):
            addresses.pop()
    return [HostedImage(tuple(addresses), _without_scheme(addresses[0]), "file")]


def _as_posted(url: SplitResult) -> str:
    """The address, but for the case of the host's name and a fragment, which no server sees."""
    return url._replace(netloc=url.netloc.lower(), fragment="").geturl()


def _without_scheme(address: str) -> str:
    return address.partition(":")[2]
