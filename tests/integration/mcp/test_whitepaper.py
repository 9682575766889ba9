"""What the whitepaper shows as calls and results in §4.1, §4.2 and §5.2 works as it stands there."""

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
from anyio import to_thread

from federation.services import agents

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "whitepaper.py"
# As the whitepaper has them, letter by letter.
SHOWN = (
    """federation_send(
    content="Please review auth-module.py for security issues",
    to="baby",  # Target specific agent
    message_type="task"
)""",
    """federation_update_state(
    summary="Refactoring auth module",
    action="EXECUTING",
    thinking="Considering OAuth2 vs JWT tradeoffs",
    wondering="Should we support refresh tokens?",
    offering="Can help with crypto review when done"
)""",
)
QUERY = """
SELECT sender, recipient, content, created_at
FROM messages
WHERE conversation_id = 'direct:baby:taichi'
ORDER BY created_at;
"""


def example() -> ModuleType:
    specification = importlib.util.spec_from_file_location("whitepaper", EXAMPLE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


async def test_calls_of_the_whitepaper_work_as_they_stand(house: Any, postgres: Any) -> None:
    with house.transactions.begin("test:setup") as session:
        tokens = {name: agents.add(session, name, role) for name, role in (("taichi", "lead"), ("baby", "analyst"), ("aorus", "developer"))}
    got = await to_thread.run_sync(example().main, f"{house.url}/mcp", tokens)
    [message] = got["inbox"]["messages"]
    assert (message["sender"], message["message_type"]) == ("taichi", "task")
    assert message["content"] == "Please review auth-module.py for security issues"
    cells = {line.split(" | ")[0].strip("| "): [cell.strip(" |") for cell in line.split(" | ")] for line in got["table"].splitlines()}
    head = cells["Agent"]
    seen = {name: {title: cells[name][head.index(title)] for title in ("Status", "Thinking", "Offering")} for name in tokens}
    assert seen == {
        "taichi": {"Status": "EXECUTING", "Thinking": "Considering OAuth2 vs JWT tradeoffs", "Offering": "Can help with crypto review when done"},
        "baby": {"Status": "IDLE", "Thinking": "—", "Offering": "Data analysis"},
        "aorus": {"Status": "WAITING", "Thinking": "—", "Offering": "Systems optimization"},
    }
    rows = {row["name"]: row for row in got["pulse"]["rows"]}
    assert (rows["taichi"]["wondering"], rows["taichi"]["stale"]) == ("Should we support refresh tokens?", False)
    with psycopg.connect(postgres.as_role("federation_auditor", house.database_url)) as connection:
        [(sender, recipient, content, _)] = connection.execute(QUERY).fetchall()
    assert (sender, recipient, content) == ("taichi", "baby", "Please review auth-module.py for security issues")


async def test_the_example_has_the_calls_letter_by_letter() -> None:
    text = re.sub(r"^ {8}", "", EXAMPLE.read_text(), flags=re.M)
    for call in SHOWN:
        assert call in text
        ast.parse(call)
