"""Chooses the site that a run reads: the embedded demo board, a real board, or none at all.

`demo/` is imported here and by `pttfaces site`, and only for `source: demo`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pttfaces import files
from pttfaces.config import Params
from pttfaces.http import LOOPBACK_VARIABLE, LoopbackHosts


@contextmanager
def connect(params: Params) -> Iterator[LoopbackHosts]:
    """The hosts on this machine, for as long as the block runs; starts the demo board if needed.

    The environment variable PTTFACES_LOOPBACK_HOSTS ("img.test=8081,board.test=8082") names
    further servers on this machine, whatever the source; where it names the demo board's host, the
    board that already runs there is used. ParamsError: an entry that is not allowed.
    """
    given = LoopbackHosts.parse(os.environ.get(LOOPBACK_VARIABLE, ""))
    if params.source != "demo":
        yield given
        return
    from pttfaces.demo import site

    if site.BOARD_HOST in given.ports:
        yield given
        return
    with site.serve_params(params) as port:
        yield LoopbackHosts({**dict.fromkeys(site.HOSTS, port), **given.ports})


def base_url(params: Params) -> str:
    """Scheme and host of the board: the demo's made-up one, or board.base_url."""
    if params.source != "demo":
        return params.board.base_url
    from pttfaces.demo import site

    return f"https://{site.BOARD_HOST}"


def host_aliases(params: Params) -> Mapping[str, str]:
    """Host name → the image host with links of the same form; the demo's replace real ones."""
    if params.source != "demo":
        return {}
    from pttfaces.demo import site

    return site.HOST_ALIASES


def cache_namespace(params: Params) -> Any:
    """The web that URLs belong to (JSON types): what is cached for a URL is valid there only.

    The demo's URLs lead to different articles and images under different parameters.
    """
    if params.source != "demo":
        return "web"
    from pttfaces.demo import DEMO_VERSION

    return ["demo", DEMO_VERSION, params.demo.model_dump()]


def listing_namespace(params: Params) -> Any:
    """As `cache_namespace`, for index pages: the demo's depend on its first and last year, too."""
    namespace = cache_namespace(params)
    return namespace if params.source != "demo" else [*namespace, params.board.year]


def board_lock_key(params: Params) -> str:
    """The key of the lock for stages that read the board: they share one rate limit."""
    return f"board-{files.digest_json([base_url(params), cache_namespace(params)])[:16]}"
