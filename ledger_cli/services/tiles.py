from __future__ import annotations
from typing import Any
def write_tiles(*a: Any) -> tuple[Any, ...]:
    return ()
