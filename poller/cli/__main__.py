"""``python -m poller.cli`` is ``order-sync``."""

from __future__ import annotations

from poller.cli import main

main()
