"""A file system that takes no more than it is told to."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system. `path`: its root."""

    path: Path

    def leave(self, kib: int) -> None:
        """Let so much be written beyond what there is by now."""
        used = shutil.disk_usage(self.path).used // 1024
        subprocess.run(["mount", "-o", f"remount,size={used + kib}k", str(self.path)], check=True)


@contextmanager
def mounted(path: Path) -> Iterator[SmallDisk]:
    """A new file system in memory, until its end. OSError or CalledProcessError: none may be mounted here."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(path)], check=True, capture_output=True)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", str(path)], check=True)
