"""`federation mcp`: MCP over stdio, for one agent; from the database, or from a front door elsewhere."""

import logging

from federation.cli.elsewhere import As, Authority, Url, front_door


def mcp(url: Url = None, authority: Authority = None, agent: As = None) -> None:
    """Serve MCP over standard input and output to the client that started it; FEDERATION_TOKEN says who that is.

    What that agent states is signed with the key of this machine.
    """
    if url is None:
        # It loads the database's side, which who calls a front door elsewhere has no use for.
        from federation import frontdoor  # noqa: PLC0415

        frontdoor.serve_stdio()
        return
    from federation.stub import server  # noqa: PLC0415

    # Standard output is the protocol's, and what goes wrong is told to who calls.
    logging.disable(logging.WARNING)
    server.serve(front_door(url, authority, agent))
