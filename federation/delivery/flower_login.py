"""Has Flower ask for its login before it tells its metrics, where it asks nobody; imports nothing of Flower, and does nothing without it."""

import sys
from typing import Any


def guard_metrics() -> None:
    """Let only who may see Flower's pages read `/metrics`, which names workers and tasks and counts them; Flower itself shows it to anybody."""
    page: Any = getattr(sys.modules.get("flower.views.monitor"), "Metrics", None)
    web = sys.modules.get("tornado.web")
    if page is None or web is None or getattr(page, "asks_for_login", False):
        return
    # As its other pages are; without a login it is open as they are.
    page.get = web.authenticated(page.get)
    page.asks_for_login = True
