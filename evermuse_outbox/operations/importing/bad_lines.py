"""The file with the bad lines of an import: one JSON object for each, with number, error and text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from .lines import BadLine

OWNER_ONLY = 0o600
"""Permissions of the file: it contains parts of records."""


class BadLinesFile:
    """A file that exists only if there is a bad line. After a crash, it continues where the last commit was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def check_new(self) -> None:
        """Check that a new import overwrites no file.

        Raises:
            FileExistsError: The file has lines of another import.
        """
        if self.path.exists() and self.path.stat().st_size:
            raise FileExistsError(f"{self.path} exists already")

    def open_at(self, size: int) -> None:
        """Forget what was written after ``size`` bytes: those lines were not committed, and come again."""
        if self.path.exists():
            self._file = self.path.open("r+b")
            self._file.truncate(min(size, self.path.stat().st_size))
            self._file.seek(0, os.SEEK_END)

    def write(self, lines: Iterable[BadLine]) -> int:
        """Write the lines to the disk. Return the size of the file."""
        for line in lines:
            if self._file is None:
                self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, OWNER_ONLY), "r+b")
                self._file.seek(0, os.SEEK_END)
            self._file.write(json.dumps(line._asdict(), ensure_ascii=False).encode("utf-8") + b"\n")
        if self._file is None:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
