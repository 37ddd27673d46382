"""Makes up the content of the demo board from a seed: its posts, images, links and pushes."""

import datetime
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

BOARD_HOST = "www.ptt.test"
IMAGE_HOSTS = (
    "i.imgur.test",
    "imgur.test",
    "m.imgur.test",
    "api.imgur.test",
    "pbs.twimg.test",
    "i.meee.test",
    "meee.test",
    "d.img.test",
    "i.ibb.test",
    "pictures.test",
)

_TAIPEI = datetime.timezone(datetime.timedelta(hours=8))
_BEFORE, _AFTER = 70, 30  # posts of the years before and after the board's
_A_YEAR = 10**8  # how far the numbers of one year's images and persons are from another's
_RECORDED = ("Beauty", 2024)  # what dvc.lock and metrics/ are of: numbers and seed begin here
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class DemoImage:
    """An image of the site.

    shows: portrait, blurred, group or scene; people: numbers of the made-up persons in it; format:
    JPEG, PNG, GIF or WEBP; rotated: stored on its side, with an EXIF orientation; answer: what the
    server sends for it: ok, truncated, html (declared as a JPEG), missing (404), removed (a
    redirect to a placeholder), busy 429 or busy 503 (once, then ok).
    """

    number: int
    shows: str
    people: tuple[int, ...]
    format: str = "JPEG"
    rotated: bool = False
    answer: str = "ok"


@dataclass(frozen=True)
class Push:
    """A comment below an article: its tag (推, 噓 or →), user, text and time (MM/DD hh:mm)."""

    tag: str
    user: str
    text: str
    time: str


@dataclass(frozen=True)
class Post:
    """A post of the board.

    nrec: popularity, −100 to 100, None for a blank cell; mark: M, S, ! or blank; metalines: 3, 2
    (the time is appended to the title) or 0; page: ok, deleted (its row has no link), gone (404),
    empty, truncated or malformed; old_layout: images are embedded as on older pages.
    """

    id: str
    title: str
    author: str
    nrec: int | None
    mark: str = ""
    page: str = "ok"
    metalines: int = 3
    old_layout: bool = False
    lines: tuple[str, ...] = ()
    pushes: tuple[Push, ...] = ()

    @property
    def time(self) -> datetime.datetime:
        """When it was posted, in UTC+8."""
        return datetime.datetime.fromtimestamp(int(self.id.split(".")[1]), _TAIPEI)


@dataclass
class DemoBoard:
    """A board: its posts, oldest first, its pinned posts, and its images by `image_key`.

    albums: name → addresses of its images; the page of any other album lists none.
    """

    name: str
    seed: int = 0
    posts: list[Post] = field(default_factory=list)
    pinned: list[Post] = field(default_factory=list)
    images: dict[str, DemoImage] = field(default_factory=dict)
    albums: dict[str, tuple[str, ...]] = field(default_factory=dict)


def make_board(seed: int, articles: int, name: str, *years: int) -> DemoBoard:
    """A board of which `articles` posts of each year pass the default filters.

    Each year has every kind of row, link and image that real boards have and, from 24 articles on,
    every kind of broken page. A year's articles and images do not depend on the other years.
    years: oldest first, without a gap.
    """
    makers = [
        _BoardMaker(seed, articles, name, year, _A_YEAR * ((year - _RECORDED[1]) % 1000))
        for year in years
    ]
    board = DemoBoard(name, seed)
    for maker in makers:
        before, inside, after = maker.make_posts()
        board.posts += [
            *(before if maker is makers[0] else []),
            *inside,
            *(after if maker is makers[-1] else []),
        ]
        board.images |= maker.board.images
        board.albums |= maker.board.albums
    board.pinned = makers[0].make_pinned()
    return board


def board_seed(seed: int, name: str) -> int:
    """The seed of the demo's board of that name, whatever boards are beside it."""
    return (seed + zlib.crc32(name.encode()) - zlib.crc32(_RECORDED[0].encode())) % 2**32


_TAGS = ("正妹", "正妹", "正妹", "帥哥", "神人", "攝影", "寫真")
_TOPICS = (
    "日常", "咖啡廳", "捷運上", "畢業照", "海邊", "陽台的早晨", "新髮型", "下班後", "書店",
    "音樂祭", "大學同學", "隨手拍", "生日", "社團成發", "夜市", "旅行的最後一天", "雨天",
    "樓下的鄰居", "市集", "晴天",
)  # fmt: skip
_SENTENCES = (
    "整理相簿翻到的,分享給大家", "今天天氣很好", "手機隨手拍,畫質請見諒", "本人同意放上來",
    "看了心情會變好", "光線不太夠", "最後一張最喜歡", "有人也常去這家店嗎", "(圖多)", "以下",
)  # fmt: skip
_REPLIES = (
    "推", "好看", "氣質真好", "這是在哪裡", "笑容很棒", "第三張!", "朝聖", "已存", "可以", "普通",
    "感謝分享", "髮型不錯", "看過,之前有人貼過", "樓下幫補圖", "光線真好",
)  # fmt: skip
_SYLLABLES = (
    "mo", "ra", "ki", "lan", "wei", "tea", "sun", "moon", "rab", "cat", "blue", "fish", "leaf",
    "ori", "ze", "pan", "yu", "hao", "lin", "star",
)  # fmt: skip
_OTHER_LINKS = (
    "https://video.test/watch?v=dQw4w9",
    "https://maps.test/place/25.03,121.56",
    "https://shop.test/item.html",
    "http://blog.test/2024/05/spring.html#photos",
)
# Form of a link to an image → about how many in a thousand links of a real year have it.
_FORMS = {
    "imgur": 480,
    "imgur jpeg": 160,
    "imgur http": 30,
    "imgur upper": 15,
    "imgur page": 25,
    "imgur mobile": 10,
    "imgur gifv": 12,
    "imgur png": 40,
    "imgur query": 10,
    "imgur wrong host": 8,
    "meee": 60,
    "meee page": 12,
    "dimg": 60,
    "ibb": 20,
    "twimg": 25,
    "twimg large": 8,
    "webp": 15,
    "other query": 10,
}
_FORMATS = {"imgur gifv": "GIF", "imgur png": "PNG", "webp": "WEBP", "other query": "PNG"}
# What successive articles show besides portraits …
_BESIDES_PORTRAITS = ("blurred", "scene", "group", "blurred", "", "blurred", "scene", "")
# … and what the server sends for one more image of each of the first articles.
_ANSWERS = ("truncated", "html", "missing", "removed", "busy 429", "busy 503", "missing", "html")


class _BoardMaker:
    """Makes a year of a board. first: the number of its first image and first person."""

    def __init__(self, seed: int, articles: int, name: str, year: int, first: int) -> None:
        self.rng = np.random.default_rng([seed, year, articles])
        self.articles = articles
        self.year = year
        self.first = first
        self.board = DemoBoard(name, seed)
        self.image_count = first
        self.link_count = 0  # of links that could take any form
        self.names: set[str] = set()

    def make_posts(self) -> tuple[list[Post], list[Post], list[Post]]:
        """The posts of the months before the year, of the year, and of the month after it."""
        start, end = self._new_year(self.year), self._new_year(self.year + 1)
        left_out = self._left_out()
        kept = [self._article(index) for index in range(self.articles)]
        order = self.rng.permutation(len(kept) + len(left_out))
        # The kept articles stay in order: the first ones have the special links and answers.
        slots = np.zeros(len(order), bool)
        slots[np.sort(order[: len(left_out)])] = True
        rest_kept, rest_left_out = iter(kept), iter(left_out)
        inside = [next(rest_left_out) if left else next(rest_kept) for left in slots]
        before = [self._filler() for _ in range(_BEFORE)]
        after = [self._filler() for _ in range(_AFTER)]
        month = 30 * 86400
        times = [
            *self._times(start - 3 * month, start, _BEFORE),
            *self._times(start, end, len(inside)),
            *self._times(end, end + month, _AFTER),
        ]
        posts = [
            self._dated(post, time, index)
            for index, (post, time) in enumerate(
                zip([*before, *inside, *after], times, strict=True)
            )
        ]
        return posts[:_BEFORE], posts[_BEFORE:-_AFTER], posts[-_AFTER:]

    def _new_year(self, year: int) -> int:
        return int(datetime.datetime(year, 1, 1, tzinfo=_TAIPEI).timestamp())

    def _times(self, start: int, end: int, count: int) -> list[int]:
        """Increasing times, with the first and the last second; two posts share one."""
        times = np.sort(self.rng.integers(start, end, count))
        times[0], times[-1] = start, end - 1
        if count > 4:
            times[2] = times[1]
        return [int(time) for time in times]

    def _dated(self, post: Post, time: int, index: int) -> Post:
        suffix = f".{self.rng.integers(0x1000):03X}"
        if index == 3:
            suffix = ""  # as in very old ids
        kind = "G" if index == 5 else "M"
        day = datetime.datetime.fromtimestamp(time, _TAIPEI)
        minutes = (datetime.timedelta(minutes=20 + 7 * i) for i in range(len(post.pushes)))
        pushes = tuple(
            replace(push, time=f"{day + later:%m/%d %H:%M}")
            for push, later in zip(post.pushes, minutes, strict=True)
        )
        return replace(post, id=f"{kind}.{time}.A{suffix}", pushes=pushes)

    def _left_out(self) -> list[Post]:
        """Posts of the year that the default filters leave out, some for each reason."""
        titles = (
            "[公告] 板規修正",
            "[公告] 水桶名單",
            "Re: [公告] 徵求板主",
            "Fw: [公告] 系統維護",
        )
        posts = [Post("", title, self._user(), 12, mark="M") for title in titles]
        gone = [f"(本文已被刪除) [{self._user()}]" for _ in range(4)]
        posts += [Post("", title, "-", None, page="deleted") for title in gone]
        posts += [replace(self._filler(), nrec=None) for _ in range(6)]
        posts += [replace(self._filler(), title="") for _ in range(2)]
        return [posts[int(i)] for i in self.rng.permutation(len(posts))]

    def _filler(self) -> Post:
        """A post that no stage reads."""
        lines = (self._sentence(), f"https://i.imgur.test/{self._name()}.jpg")
        return Post("", self._title(), self._user(), self._nrec(), lines=lines)

    def make_pinned(self) -> list[Post]:
        """The pinned posts; after `make_posts`."""
        old = self._new_year(self.year - 4)
        titles = ("[公告] 板規 (發文前請看)", "[公告] 檢舉區", "[正妹] 置底閒聊")
        return [
            self._dated(
                Post("", title, "ptthost", 99, mark="!", lines=(self._sentence(),)),
                old + 1000 * index,
                9,
            )
            for index, title in enumerate(titles)
        ]

    def _nrec(self) -> int:
        draw = int(self.rng.integers(20))
        return {0: 100, 1: -10, 2: -100, 3: -30, 4: 100}.get(draw, int(self.rng.integers(1, 100)))

    def _title(self) -> str:
        return f"[{self._pick(_TAGS)}] {self._pick(_TOPICS)}"

    def _user(self) -> str:
        word = self._pick(_SYLLABLES) + self._pick(_SYLLABLES) + self._pick(_SYLLABLES)
        return f"{word[:9]}{self.rng.integers(10, 100)}"

    def _sentence(self) -> str:
        return self._pick(_SENTENCES)

    def _pick(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def _article(self, index: int) -> Post:
        page, interval = "ok", self.articles // 6
        if self.articles >= 24 and index in (interval, 2 * interval, 3 * interval, 4 * interval):
            page = ("gone", "empty", "truncated", "malformed")[index // interval - 1]
        author, title = self._user(), self._title()
        nrec = (100, -10, -100, 1, 99)[index] if index < 5 else self._nrec()
        post = Post("", title, author, nrec, mark="MS! "[index % 4].strip(), page=page)
        metalines = {1: 0, 2: 2}.get(index % 9, 3)
        if page in ("gone", "empty", "malformed"):
            return post
        return replace(
            post,
            metalines=metalines,
            old_layout=index % 5 == 4,
            lines=tuple(self._lines(index)),
            pushes=self._pushes(index),
        )

    def _lines(self, index: int) -> list[str]:
        links = [self._portrait(index) for _ in range(5 if index % 3 == 2 else 4)]
        if shows := _BESIDES_PORTRAITS[index % len(_BESIDES_PORTRAITS)]:
            links.append(self._link(self._image(shows, index)))
        if index < len(_ANSWERS):
            unavailable = self._image("portrait", index, answer=_ANSWERS[index])
            links.insert(2, self._link(unavailable, form="imgur"))
        lines = [self._sentence(), "", *links, "", self._pick(_OTHER_LINKS), "", self._sentence()]
        first = f"https://i.imgur.test/{self._name()}.jpeg"
        self._publish(first, self._image("portrait", index))
        match index % 12:
            case 0:  # two links without a space between them
                second = self._link(self._image("portrait", index), form="imgur jpeg")
                lines.insert(3, first + second)
            case 1:  # punctuation that the site takes for a part of the link
                lines.insert(3, f"({first})")
                lines.insert(4, f"{self._portrait(index)},")
            case 2:  # the same image in two forms
                lines.insert(3, first)
                lines.insert(5, first.replace("//i.imgur", "//m.imgur").removesuffix(".jpeg"))
            case 3:  # the same bytes under another name
                other = f"https://i.ibb.test/{self._name()}/{self._name()}.jpg"
                self._publish(other, self.board.images[image_key(first)])
                lines[3:3] = [first, other]
            case 4:
                kind, album = "a" if index < 12 else "gallery", self._name()
                lines.insert(3, f"https://imgur.test/{kind}/{album}")
                lines.insert(4, first)
                if index % 24 == 4:  # the pages of the others list no image
                    self.board.albums[album] = (first, *self._in_album(index))
            case 5:
                lines[3:3] = [first, f"聯絡: {self._user()}@mail.test"]
            case 6:
                lines[3:3] = [f"https://blog.test/@{self._user()}@mail.test/post", first]
            case 7:
                rotated = self._image("portrait", index, rotated=True)
                lines.insert(3, self._link(rotated, form="imgur"))
            case 9:  # a page that the older layout embeds, too
                lines.insert(3, first.replace("//i.imgur", "//imgur").removesuffix(".jpeg"))
            case _:
                lines.insert(3, first)
        return lines

    def _in_album(self, index: int) -> list[str]:
        """Links to two images of an album; their numbers and names come from their own generator,
        so that they change no others."""
        links = []
        for number in (10**6 + 2 * index, 10**6 + 2 * index + 1):
            rng = np.random.default_rng([self.board.seed, self.year, number])
            name = "".join(_LETTERS[int(i)] for i in rng.integers(len(_LETTERS), size=7))
            links.append(f"https://i.imgur.test/{name}.jpg")
            self._publish(
                links[-1], DemoImage(self.first + number, "portrait", (self.first + index,))
            )
        return links

    def _pushes(self, index: int) -> tuple[Push, ...]:
        tags = ("推", "推", "推", "→", "噓")
        pushes = [
            Push(self._pick(tags), self._user(), self._pick(_REPLIES), "")
            for _ in range(int(self.rng.integers(2, 9)))
        ]
        if index % 4 == 0:
            pushes[0] = Push("推", self._user(), f"補一張 {self._portrait(index)}", "")
        if index % 6 == 3:
            pushes[1] = Push("→", self._user(), self._pick(_OTHER_LINKS), "")
        return tuple(pushes)

    def _portrait(self, index: int) -> str:
        return self._link(self._image("portrait", index))

    def _image(
        self, shows: str, person: int, *, answer: str = "ok", rotated: bool = False
    ) -> DemoImage:
        person += self.first
        people = {"scene": (), "group": (person, 10**6 + person)}.get(shows, (person,))
        if shows == "group" and person % 2:
            people = (*people, 2 * 10**6 + person)
        self.image_count += 1
        return DemoImage(self.image_count, shows, people, answer=answer, rotated=rotated)

    def _link(self, image: DemoImage, form: str = "") -> str:
        """Publishes an image on a host; returns a link to it as a person would post it."""
        if not form:
            # Every form twice in the first articles, then as often as people use them.
            forms, weights = list(_FORMS), np.array(list(_FORMS.values()), float)
            form = forms[int(self.rng.choice(len(forms), p=weights / weights.sum()))]
            if self.link_count < 2 * len(forms):
                form = forms[self.link_count % len(forms)]
            self.link_count += 1
        image = replace(image, format=_FORMATS.get(form, "JPEG"))
        name = self._name()
        links = {
            "imgur": f"https://i.imgur.test/{name}.jpg",
            "imgur jpeg": f"https://i.imgur.test/{name}.jpeg",
            "imgur http": f"http://i.imgur.test/{name}.jpg",
            "imgur upper": f"https://I.Imgur.test/{name}.JPG",
            "imgur page": f"https://imgur.test/{name}",
            "imgur mobile": f"https://m.imgur.test/{name}",
            "imgur gifv": f"https://i.imgur.test/{name}.gifv",
            "imgur png": f"https://i.imgur.test/{name}.png",
            "imgur query": f"https://i.imgur.test/{name}.jpg?1",
            "imgur wrong host": f"https://imgur.test/{name}.jpg",
            "meee": f"https://i.meee.test/{name}.jpg",
            "meee page": f"https://meee.test/{name}",
            "dimg": f"https://d.img.test/u/{name}.jpeg",
            "ibb": f"https://i.ibb.test/{name}/{name}.jpg",
            "twimg": f"https://pbs.twimg.test/media/{name}?format=jpg&name=small",
            "twimg large": f"https://pbs.twimg.test/media/{name}.jpg:large",
            "webp": f"https://pictures.test/{self.year}/{name}.webp",
            "other query": f"https://pictures.test/{self.year}/{name}.PNG?w=640&from=ptt",
        }
        self._publish(links[form], image)
        return links[form]

    def _publish(self, link: str, image: DemoImage) -> None:
        self.board.images[image_key(link)] = image

    def _name(self) -> str:
        while True:
            name = "".join(_LETTERS[int(i)] for i in self.rng.integers(len(_LETTERS), size=7))
            if name not in self.names:
                self.names.add(name)
                return name


def image_key(url: str) -> str:
    """The key in `DemoBoard.images` of an image's address: host and path, without extension and
    query, since hosts such as i.imgur.test serve the same image under all of them."""
    host, _, path = url.partition("://")[2].partition("/")
    path = path.partition("?")[0].partition(":")[0]
    stem, dot, extension = path.rpartition(".")
    path = stem if dot and "/" not in extension else path
    family = {"imgur.test": "i.imgur.test", "m.imgur.test": "i.imgur.test"}
    family["meee.test"] = "i.meee.test"
    host = host.lower()
    return f"{family.get(host, host)}/{path}"
