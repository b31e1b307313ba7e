"""The object that an import path stands for, imported when it is needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def resolve(path: str) -> Any:
    """The object that `module:name` stands for, imported now."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
