"""Serves the embedded demo board for a look in a browser, until Ctrl-C.

python src/demo_site.py [--port N]
"""

import argparse
import threading

from pttfaces import cli
from pttfaces.demo.site import LOOPBACK, serve
from pttfaces.demo.world import make_world
from pttfaces.errors import ParamsError
from pttfaces.params import load


def main() -> None:
    parser = argparse.ArgumentParser(description="Serves the embedded demo board for a browser.")
    parser.add_argument(
        "--port", type=int, default=0, help="port on loopback; any free one if not given"
    )
    port = parser.parse_args().port
    if not 0 <= port <= 65535:
        raise ParamsError(f"--port is {port}; allowed is 1 to 65535, or 0 for any free one.")
    params = load()
    board = params.board
    world = make_world(params.demo.seed, params.demo.articles, board.name, board.year)
    with serve(world, port) as served:
        address = f"http://{LOOPBACK}:{served}/bbs/{board.name}/index.html"
        print(f"the demo board is at {address} (Ctrl-C ends it)", flush=True)
        try:
            while not threading.Event().wait(3600):
                pass
        except KeyboardInterrupt:
            print("the demo board is closed.")


if __name__ == "__main__":
    cli.run(main)
