"""Files that are there whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to `path` when the block ends without error.

    Args:
      path: the final name; its folder is created.

    Yields:
      The temporary path to write to.

    Raises:
      OSError: there is no room for it.

    Example:
      >>> import tempfile
      >>> target = Path(tempfile.mkdtemp()) / "note.txt"
      >>> with replacing(target) as temporary:
      ...     _ = temporary.write_text("whole")
      >>> target.read_text()
      'whole'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(6)}.tmp")
    # as any file is made, with the rights that the user's umask leaves
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"no room for {path} ({os.strerror(error.errno or 0)}): what was finished before it is "
            "kept; make room, and the same command goes on",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically.

    Args:
      path: the file.
      value: what `json` can write.

    Raises:
      ValueError: for NaN or infinities, which JSON cannot hold.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """What a run wrote with `write_json`.

    Args:
      path: its settings, or its summary.

    Returns:
      The object; an empty one where there is no file.

    Raises:
      ValueError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ValueError(f"{path} is not valid JSON; delete it or choose another --out") from None


def same_settings(path: Path, settings: dict[str, Any]) -> None:
    """Writes the settings of a new run, or makes sure that a run being resumed has the same.

    Args:
      path: the settings file, in the folder of the run.
      settings: what the results depend on, as JSON would give it back.

    Raises:
      ValueError: when the folder holds a run with other settings, naming the first that differs.
    """
    before = read_json(path)
    if before:
        check_same(path.parent, before, settings)
    else:
        write_json(path, settings)


def check_same(folder: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    """Makes sure that a run being resumed has the settings it was begun with.

    Args:
      folder: of the run.
      before: its settings.
      settings: those of now.

    Raises:
      ValueError: naming the first that differs.
    """
    for name in sorted(before.keys() | settings.keys()):
        if before.get(name) != settings.get(name):
            raise ValueError(
                f"{folder} holds a run with other settings ({name} was {before.get(name)!r}, "
                f"now it is {settings.get(name)!r}); delete it or choose another --out"
            )
