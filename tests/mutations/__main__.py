"""Mutation testing: break the package in one place at a time and see whether a test fails.

``make mutations`` applies each row of ``table.MUTATIONS`` to a copy of the working tree and runs
the tests that the row names. A mutation is *killed* if they fail, and *survives* if they pass: then
a test is missing. Verdicts are kept in ``.mutations.json``; a run that was cut off goes on, and
survivors are tried again. Delete the file to begin anew.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from table import MUTATIONS, Mutation, misplaced

ROOT = Path(__file__).parents[2]
VERDICTS = ROOT / ".mutations.json"
LIMIT = 900  # seconds: a mutation that loops for ever is killed, too


def main() -> None:
    """Try what has no verdict yet; exit with 1 if a mutation survives."""
    parser = argparse.ArgumentParser(prog="make mutations", description=__doc__)
    parser.add_argument("words", nargs="*", help="only those with one of these in file or name")
    words = parser.parse_args().words
    if wrong := misplaced(ROOT):
        sys.exit("the old text has to be there exactly once:\n" + "\n".join(wrong))
    verdicts = json.loads(VERDICTS.read_text()) if VERDICTS.exists() else {}
    chosen = [
        m for m in MUTATIONS if not words or any(word in f"{m.file} {m.name}" for word in words)
    ]
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_tree(Path(folder))
        for number, mutation in enumerate(chosen, 1):
            if verdicts.get(mutation.name) != "killed":
                if verdicts.get(mutation.tests) != "pass":
                    if run_tests(tree, mutation.tests) != "survived":
                        sys.exit(f"{mutation.tests}: these tests fail without a mutation")
                    verdicts[mutation.tests] = "pass"
                verdicts[mutation.name] = verdict(tree, mutation)
                VERDICTS.write_text(json.dumps(verdicts, indent=1))
            print(
                f"{number}/{len(chosen)} {verdicts[mutation.name]:>8} {mutation.name}", flush=True
            )
    counts = collections.Counter(verdicts[m.name] for m in chosen)
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    sys.exit(counts["killed"] < len(chosen))


def copy_tree(folder: Path) -> Path:
    """The files of the working tree that git does not ignore."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (source := ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(source.read_bytes())
    return folder


def verdict(tree: Path, mutation: Mutation) -> str:
    """``killed``, ``survived``, or ``broken`` where no test could be run."""
    path = tree / mutation.file
    text = path.read_text()
    path.write_text(text.replace(mutation.old, mutation.new))
    try:
        return run_tests(tree, mutation.tests)
    finally:
        path.write_text(text)


def run_tests(tree: Path, tests: str) -> str:
    """The verdict of pytest's arguments ``tests``; -k goes last and may have blanks."""
    files, _, words = tests.partition(" -k ")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    command += [*files.split(), *(["-k", words] if words else [])]
    environment = {
        **os.environ,
        # A file that is changed twice in a second would be read as it was before.
        "PYTHONDONTWRITEBYTECODE": "1",
        # Most programs are the same under the next mutation.
        "JAX_COMPILATION_CACHE_DIR": str(tree / ".compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    try:
        found = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, timeout=LIMIT
        ).returncode
    except subprocess.TimeoutExpired:
        return "killed"
    return {0: "survived", 1: "killed"}.get(found, "broken")


if __name__ == "__main__":
    main()
