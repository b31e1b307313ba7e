"""Tests of a server that was not named are not collected."""

from __future__ import annotations

import os

from tests.stores.engines import SERVERS

collect_ignore = [f"test_{name}.py" for name, variable in SERVERS.items() if not os.environ.get(variable)]
