"""When a test fails, what the processes that it started have logged is part of its report: a plugin."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# What is no news, in a log of a few lines as in one of thousands.
PLAIN = re.compile(r"\b(DEBUG|INFO)\b")
LINES = 40


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    """Add the last lines of each log, without those that are no news."""
    report = yield
    if report.failed:
        for folder in _folders(getattr(item, "funcargs", {})):
            for path in sorted(folder.rglob("*.log")):
                news = [line for line in path.read_text(errors="replace").splitlines() if not PLAIN.search(line)]
                if news:
                    report.sections.append((f"the end of {path.name}", "\n".join(news[-LINES:])))
    return report


def _folders(fixtures: dict[str, Any]) -> set[Path]:
    """Return the folders of what has one: a world of workers, a federation that commands are run against."""
    # A fixture may be several things at once.
    made = [one for value in fixtures.values() for one in (value if isinstance(value, tuple) else (value,))]
    found = (getattr(one, name, None) for one in made for name in ("folder", "data_dir"))
    return {folder for folder in found if isinstance(folder, Path) and folder.is_dir()}
