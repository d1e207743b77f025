"""Run the ``twinlens`` command as ``python -m twinlens``."""

from __future__ import annotations

from twinlens.cli import run

if __name__ == "__main__":
    run()
