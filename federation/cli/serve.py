"""`federation serve`: the front door over HTTP."""

from federation import frontdoor


def serve() -> None:
    """Serve MCP over HTTP at /mcp, and /health, until Ctrl-C."""
    frontdoor.serve()
