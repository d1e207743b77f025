"""``python -m twinlens``: the same as the ``twinlens`` command."""

from __future__ import annotations

from twinlens import main

if __name__ == "__main__":
    main()
