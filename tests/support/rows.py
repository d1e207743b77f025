"""Stored rows in a form that ``==`` compares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def comparable(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its vector as a list: arrays have no single truth value."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in row.items()
    }
