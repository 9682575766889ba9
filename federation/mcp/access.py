"""Who calls, known from the token alone; refuses a header that says somebody else."""

import anyio
from fastmcp.server.auth import AccessToken, TokenVerifier
from fastmcp.server.dependencies import get_access_token, get_http_request

from federation.errors import Refused, Unauthenticated
from federation.mcp.callers import Callers
from federation.mcp.issuer import Issuer
from federation.security.claimed_senders import claims_sender
from federation.services.agents import Caller
from federation.transaction import Transactions


def _headers() -> list[tuple[str, str]]:
    """Return the headers of the current call over HTTP, each as often as it came; none over stdio."""
    try:
        return get_http_request().headers.items()
    except RuntimeError:
        return []


class Access(TokenVerifier):
    """Finds out whose token it is, our own or the issuer's; `token` is the one of a caller over stdio, who brings none with each call."""

    def __init__(self, transactions: Transactions, limiter: anyio.CapacityLimiter, *, token: str | None = None, issuer: Issuer | None = None) -> None:
        super().__init__()
        self._callers, self._token = Callers(transactions, limiter, issuer=issuer), token
        self.issuer = issuer

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the agent's name as FastMCP wants it; None for a token that is not valid.

        Raises DatabaseUnavailable and IssuerUnavailable for a token that was not seen lately.
        """
        try:
            caller = await self._callers.authenticate(token)
        except Unauthenticated:
            return None
        return AccessToken(token=token, client_id=caller.name, scopes=[], claims={})

    async def caller(self) -> Caller:
        """Return who makes the current call. Raises Unauthenticated, Refused, DatabaseUnavailable, IssuerUnavailable."""
        found = get_access_token()
        token = self._token or (found.token if found else None)
        if token is None:
            raise Unauthenticated("no valid token came with the call")
        caller = await self._callers.authenticate(token)
        for header, claimed in _headers():
            # Nobody is believed for it, and who says another than he is may believe that he is.
            if claims_sender(header) and claimed != caller.name:
                told = f"header {header[:100]} says {claimed[:100]!r}, and the token is {caller.name}'s; leave the header out."
                raise Refused("Who calls is known from the token alone:", told)
        return caller
