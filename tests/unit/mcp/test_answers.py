"""What an agent reads where something went wrong, and what it is told of a tool."""

import inspect
import json
from typing import Any

import pytest

from federation.cli.mcp_clients import Client, configuration
from federation.errors import BrokerUnavailable, DatabaseUnavailable, NotFound
from federation.mcp.answers import offered, readable
from federation.mcp.catalogue import TOOLS


def test_transient_error_says_to_try_again_and_a_permanent_one_does_not() -> None:
    assert str(readable(BrokerUnavailable("ActiveMQ did not answer"))) == "ActiveMQ did not answer; try again in a few seconds"
    assert str(readable(DatabaseUnavailable("PostgreSQL does not answer; call again later"))) == "PostgreSQL does not answer; call again later"
    assert str(readable(NotFound("agent", "bobb", ["bob"]))) == "no agent 'bobb'; nearest: bob"


@pytest.mark.parametrize("tool", [tool for tool, _, _ in TOOLS], ids=lambda tool: tool.__name__)
def test_offered_tool_hides_the_call_and_keeps_all_else(tool: Any) -> None:
    shown = offered(tool)
    _, *asked = inspect.signature(tool).parameters
    assert list(inspect.signature(shown).parameters) == asked
    assert (shown.__name__, shown.__doc__) == (tool.__name__, inspect.getdoc(tool))


@pytest.mark.parametrize("client", Client)
def test_each_client_gets_address_and_token_in_its_own_form(client: Client) -> None:
    text = configuration(client, url="http://127.0.0.1:8765/mcp", token="fed_x")
    assert '"http://127.0.0.1:8765/mcp"' in text
    assert '"Bearer fed_x"' in text
    if client is not Client.CONTINUE:  # which reads YAML
        (servers,) = json.loads(text).values()
        assert list(servers) == ["federation"]
