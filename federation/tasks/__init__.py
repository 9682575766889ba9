"""The modules whose tasks a worker runs, one line each."""

from typing import Final

MODULES: Final = (
    "federation.tasks.claims",
    "federation.tasks.cop",
    "federation.tasks.delegation",
    "federation.tasks.inference",
    "federation.tasks.memories",
    "federation.tasks.retrieval",
    "federation.tasks.summaries",
)
