"""What MCP clients want in their configuration to reach the front door; writes no file."""

import json
from enum import StrEnum
from typing import Any

NAME = "federation"


class Client(StrEnum):
    """A client whose configuration we know."""

    CLAUDE_CODE = "claude-code"
    CLINE = "cline"
    CONTINUE = "continue"
    VSCODE = "vscode"
    CURSOR = "cursor"


# Where the lines go; a person reads this beside them.
FILES = {
    Client.CLAUDE_CODE: ".mcp.json in the project's folder",
    Client.CLINE: "cline_mcp_settings.json (in Cline: MCP Servers, Configure)",
    Client.CONTINUE: ".continue/mcpServers/federation.yaml",
    Client.VSCODE: ".vscode/mcp.json",
    Client.CURSOR: ".cursor/mcp.json",
}


def configuration(client: Client, *, url: str, token: str) -> str:
    """Return the lines for this client's file."""
    headers = {"Authorization": f"Bearer {token}"}
    if client is Client.CONTINUE:
        return "\n".join(
            (
                f"name: {NAME}",
                "version: 0.0.1",
                "schema: v1",
                "mcpServers:",
                f"  - name: {NAME}",
                "    type: streamable-http",
                f"    url: {json.dumps(url)}",
                "    requestOptions:",
                "      headers:",
                f"        Authorization: {json.dumps(headers['Authorization'])}",
            )
        )
    server: dict[str, Any] = {"url": url, "headers": headers}
    if client in {Client.CLAUDE_CODE, Client.VSCODE}:
        server = {"type": "http", **server}
    elif client is Client.CLINE:
        server = {"type": "streamableHttp", **server}
    return json.dumps({"servers" if client is Client.VSCODE else "mcpServers": {NAME: server}}, indent=2)
