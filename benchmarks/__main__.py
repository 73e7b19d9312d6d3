"""Command line: run all benchmarks, or the named ones, and print their tables."""

from __future__ import annotations

import argparse
import importlib

BENCHMARKS = (
    "import_time",
    "metrics",
    "epoch",
    "measure",
    "taps",
    "sweeps",
    "polar",
    "gram_step",
    "linearising",
    "vae",
)


def main() -> None:
    """Run the benchmarks in turn; they share nothing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"any of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: wanted {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        importlib.import_module(f"benchmarks.{name}").run(arguments.quick)


if __name__ == "__main__":
    main()
