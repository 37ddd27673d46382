"""Writes report.html: the data, the training and the scores of every experiment on one page.

python src/report.py [--out report.html]

The page needs no network to open. It shows training pictures: it is git-ignored; keep it private.
"""

import argparse
from pathlib import Path

from pttfaces import cli, files


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="where to write it")
    out = parser.parse_args().out
    from pttfaces.report import page  # takes a second: matplotlib

    files.write_text(out, page.render())
    print(f"report: {out.resolve().as_uri()} ({out.stat().st_size / 2**20:.1f} MB)")


if __name__ == "__main__":
    cli.run(main)
