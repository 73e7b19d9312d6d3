"""Files and run folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import socket
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, where folders are not locked
    fcntl = None

CHECKSUM = "checksum"
"""The name in a JSON object of the CRC-32 of the rest."""

TEMPORARY = ".*-????????????.tmp"
"""Pattern of the names under which ``write_whole`` writes."""


def write_whole(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file under a temporary name beside ``path``, then rename it.

    Threads and processes may write the same path at once: one of their files stays, whole.

    Args:
        path: Where the file goes; its folder is made, an older file there is replaced at once.
        write: What writes the content into the open binary file.

    Raises:
        OSError: If it cannot be written, as on a full disk; the message names ``path``.
    """
    path = path.expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, error.strerror, str(path)) from error  # as on a full disk
        raise


def append_lines(path: Path, lines: bytes, begin: bytes) -> bytes:
    """Append whole lines of JSON to a file; a torn line before them is cut off.

    Threads and processes may append to the same file at once, where the file system knows locks.

    Args:
        path: The file; it and its folder are made if they are absent.
        lines: Each ends with a line feed.
        begin: How each line begins.

    Returns:
        What was cut off. A last line that lacks nothing but its line feed is not.

    Raises:
        OSError: If they cannot be written, as on a full disk. The file then has none of them.
        ValueError: If the file ends in a torn line, and holds something else, see ``check_lines``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("ab+", buffering=0) as file:
            _wait_for_lock(file)  # else what another appends meanwhile would be cut off as torn
            whole = _end_of_last_line(file, file.seek(0, os.SEEK_END))
            file.seek(whole)
            torn = file.read()
            if torn and is_json(torn):
                whole, torn, lines = whole + len(torn), b"", b"\n" + lines
            elif torn:
                check_lines(path, begin)
            file.truncate(whole)
            try:
                while lines:
                    lines = lines[file.write(lines) :]
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    return torn


def check_lines(path: Path, begin: bytes) -> None:
    """Refuse a file none of whose lines is an object of JSON; change nothing.

    Blank files pass, and those of a single line that was torn, which begins with ``begin``.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it holds something else.
    """
    is_blank = True
    with path.open("rb") as file:
        for line in file:
            is_torn = not line.endswith(b"\n") and line[: len(begin)] == begin[: len(line)]
            if is_torn or (line.startswith(b"{") and is_json(line)):
                return
            is_blank = is_blank and not line.strip()
    if not is_blank:
        raise ValueError(
            f"path {path} holds no line that is an object of JSON: wanted a new file, or one of "
            "such lines; nothing was changed"
        )


def is_json(line: bytes) -> bool:
    """Whether a line is a whole value of JSON."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _end_of_last_line(file: Any, end: int) -> int:
    """Where the last whole line ends."""
    while end:
        start = max(0, end - 2**16)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


@contextlib.contextmanager
def running(folder: Path) -> Iterator[None]:
    """Keep other processes out of a run folder, and remove what killed runs left unfinished in it.

    The lock is on the file ``.lock`` and ends with the process, however that ends. It holds on
    file systems that know locks; on others, and on Windows, nothing is locked.

    Raises:
        ValueError: If another process, or another run of this one, holds the folder.

    Example:
        >>> with running(Path("~/runs/first")):  # doctest: +SKIP
        ...     train()
    """
    folder = folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        _lock(file, folder)
        for rest in folder.rglob(TEMPORARY):
            rest.unlink(missing_ok=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _lock(file: IO[str], folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise ValueError(
            f"folder {folder} is in use: another process is running this "
            f"({file.read() or 'not named'}); wait for it, or name another folder"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _wait_for_lock(file: Any) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


NO_LOCKS = errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write plain values as JSON, whole or not at all, see ``json_text``."""
    text = json_text(value)
    write_whole(path, lambda file: file.write(text.encode()))


def json_text(value: dict[str, Any]) -> str:
    """An object as JSON, with a checksum of the rest; NaN and infinity become null."""
    plain = _plain(value)
    sealed = {**plain, CHECKSUM: _seal(plain)}
    return json.dumps(sealed, indent=2, allow_nan=False) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    """The object that ``write_json`` wrote; files of before without a checksum are read, too.

    Raises:
        OSError: If the file cannot be opened.
        ValueError: If the file is damaged; it is left as it is.
    """
    path = path.expanduser()
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError(f"it holds {str(value)[:40]}, wanted an object")
        kept = value.pop(CHECKSUM, None)
        if kept is not None and kept != _seal(value):
            raise ValueError(f"its {CHECKSUM} is {str(kept)[:40]}, wanted {_seal(value)}")
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): move its folder away to start again; nothing was changed"
        ) from error
    return value


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write named arrays as ``.npz``, whole or not at all."""
    named: dict[str, Any] = dict(arrays)
    write_whole(path, lambda file: np.savez_compressed(file, **named))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """What ``write_arrays`` wrote.

    Raises:
        OSError: If the file cannot be opened.
        MemoryError: If its arrays do not fit.
        ValueError: If the file is truncated or damaged; it is left as it is.
    """
    path = path.expanduser()
    with path.open("rb") as file:  # outside the try: a file one may not read is not damaged
        try:
            with np.load(file, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files}
            _check_count(file, len(found))
            return found
        except Exception as error:  # zipfile, zlib and numpy each have their own
            if isinstance(error, MemoryError) and _is_whole(path):
                raise
            raise ValueError(
                f"{path} is truncated or damaged ({error}): move it away to make it anew; nothing "
                "was changed"
            ) from error


def claim_folder(folder: Path, configuration: dict[str, Any], name: str = "config.json") -> None:
    """Write the configuration into a new folder, or compare it with the one that is there.

    Raises:
        ValueError: If the folder holds a run of another configuration, or files without one; it
            is left as it is.
    """
    folder = folder.expanduser()
    if not is_in_use(folder):
        write_json(folder / name, _plain(configuration))
    check_folder(folder, configuration, name)


def is_in_use(folder: Path) -> bool:
    """Whether the folder holds files, other than hidden ones."""
    return any(folder.expanduser().glob("[!.]*"))


def check_folder(folder: Path, configuration: dict[str, Any], name: str = "config.json") -> None:
    """Compare the configuration of a folder that is there; change nothing.

    Raises:
        ValueError: As ``claim_folder``.
    """
    folder = folder.expanduser()
    path, wanted = folder / name, _plain(configuration)
    if not path.exists():
        raise ValueError(
            f"folder {folder} holds files but no {name} that says of which run: name another "
            "folder, or move that one away to start again"
        )
    found, wanted = _flat(read_json(path)), _flat(wanted)
    for key in wanted | found:
        old, new = found.get(key), wanted.get(key)
        if not _same(old, new):
            if str(old) == str(new):  # "16" and 16
                old, new = repr(old), repr(new)
            raise ValueError(
                f"folder {folder} holds a run of another configuration: its {key} is {old}, wanted "
                f"{new}; name another folder, or move that one away to start again"
            )


def _same(found: Any, wanted: Any) -> bool:
    """Whether two JSON values are equal; unlike for ``==``, True is not 1."""
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def _check_count(file: IO[bytes], found: int) -> None:
    """Compare with the number that the file states: zipfile checks each array, not how many."""
    file.seek(-12, os.SEEK_END)
    stored = int.from_bytes(file.read(2), "little")
    if found != stored:
        raise ValueError(f"{found} of {stored} arrays are found")


def _is_whole(path: Path) -> bool:
    """Whether the checksums of an ``.npz`` file hold; a damaged header can ask for any memory."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except Exception:  # as for read_arrays
        return False


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def _seal(plain: dict[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(plain, sort_keys=True).encode()):08x}"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
