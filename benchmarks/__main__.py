"""Command line: run all benchmarks, or the named ones, and print their tables."""

from __future__ import annotations

import argparse
import importlib

from benchmarks.common import SIZES


def main() -> None:
    """Run the benchmarks in turn; they share nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(SIZES)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SIZES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: wanted {', '.join(SIZES)}")
    for name in arguments.names or SIZES:
        sizes = SIZES[name].quick if arguments.quick else SIZES[name].full
        importlib.import_module(f"benchmarks.{name}").run(**sizes)


if __name__ == "__main__":
    main()
