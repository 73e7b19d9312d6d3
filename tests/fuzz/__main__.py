"""Fuzzing: random inputs against oracles in long double, with a new seed each time.

``make fuzz`` draws stacks of inputs for two minutes and counts, by function, the values that are
wrong without a word: finite numbers outside of what is documented. ``MINUTES=60 make fuzz`` goes on
for longer. ``python tests/fuzz CHECK --seed S --round R`` repeats one stack, as a wrong value says.
The exit status is 1 if there was one.

Columns of the report: values compared; *absent*: NaN or infinity where the oracle has a number;
*open*: nothing is promised, as for a rank at the tolerance; *wrong*.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
import warnings
import zlib

import jax

jax.config.update("jax_platforms", "cpu")
if "GRAMLIN_FUZZ_CACHE" in os.environ:
    jax.config.update("jax_compilation_cache_dir", os.environ["GRAMLIN_FUZZ_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)

import numpy as np  # noqa: E402
import of_ansatz  # noqa: E402
import of_collapse  # noqa: E402
import of_kernels  # noqa: E402
import of_moments  # noqa: E402
import of_networks  # noqa: E402
import of_similarity  # noqa: E402
from verdicts import Tally  # noqa: E402

CHECKS = {
    "moments": of_moments.check,
    "collapse": of_collapse.check,
    "kernels": of_kernels.check,
    "networks": of_networks.check,
    "ansatz": of_ansatz.check,
    "similarity": of_similarity.check,
}


def main() -> None:
    """Try all checks in turn until the time is over; exit with 1 if a value was wrong."""
    options = arguments()
    tally, end = Tally(), time.monotonic() + 60 * options.minutes
    print(f"seed {options.seed}", flush=True)
    number, rounds = options.round or 0, 0
    try:
        while rounds == 0 or (options.round is None and time.monotonic() < end):
            for name in options.checks or CHECKS:
                run(tally, name, options.seed, number)
            number, rounds = number + 1, rounds + 1
    except KeyboardInterrupt:
        pass
    print(tally)
    sys.exit(tally.wrong > 0)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("checks", nargs="*", help=f"of {', '.join(CHECKS)}; none: all")
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("MINUTES", 2)))
    seed = os.environ.get("SEED") or secrets.randbits(32)
    parser.add_argument("--seed", type=int, default=int(seed))
    parser.add_argument("--round", type=int, help="only this one")
    return parser.parse_args()


def run(tally: Tally, name: str, seed: int, number: int) -> None:
    """One stack of inputs; the seed, the check and the number of the round say which."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for verdict in CHECKS[name](rng):
            replay = f"{verdict.function}: {name} --seed {seed} --round {number}"
            if example := tally.add(verdict, replay):
                print(example, flush=True)


if __name__ == "__main__":
    main()
