"""The organisation's own issuer: tells whose JWT it is; rights and roles are ours, never the token's."""

import logging
import time
from typing import Any

from fastmcp.server.auth.providers.jwt import JWTVerifier

from federation.errors import IssuerUnavailable
from federation.mcp.where import mcp_url
from federation.settings import Settings

logger = logging.getLogger(__name__)


class _Verifier(JWTVerifier):
    """Tells keys that cannot be had from a token that is not valid, which to FastMCP's verifier are one."""

    _away = False

    async def _get_jwks_key(self, kid: str | None) -> str:
        try:
            return await super()._get_jwks_key(kid)
        except ValueError as error:
            # Also in the half minute in which it does not ask once more.
            if self._away:
                raise IssuerUnavailable(f"{self.issuer} does not tell its keys now, so no JWT can be checked; call again later") from error
            raise

    async def _fetch_jwks(self) -> dict[str, Any]:
        try:
            found = await super()._fetch_jwks()
        except Exception as error:
            if not self._away:
                logger.warning("issuer.keys_not_had", extra={"url": self.jwks_uri, "reason": str(error) or type(error).__name__})
            self._away = True
            raise
        self._away = False
        return found


class Issuer:
    """Takes a JWT by one algorithm, from one issuer, for this front door, that has an end which has not come."""

    def __init__(self, config: Settings, keys: bytes | str) -> None:
        """`keys` is the issuer's public key in PEM, or the URL of its JWKS."""
        self.url = str(config.jwt_issuer)
        self._claim = config.jwt_claim
        self._verifier = _Verifier(
            public_key=keys if isinstance(keys, bytes) else None,
            jwks_uri=keys if isinstance(keys, str) else None,
            issuer=config.jwt_issuer,
            audience=config.jwt_audience or mcp_url(config, for_others=True),
            algorithm=config.jwt_algorithm,
        )

    async def name(self, token: str) -> str | None:
        """Return the name of the agent that a JWT speaks for, None for a JWT that is not valid. Raises IssuerUnavailable."""
        try:
            found = await self._verifier.verify_token(token)
        except (OverflowError, RecursionError, ValueError):
            # Its issuer signed an end that is no moment, such as Infinity; or it is a list within lists, thousands deep, which anybody can write.
            return None
        # The verifier takes a token without an end, and looks for no beginning.
        if found is None or found.expires_at is None:
            return None
        begins = found.claims.get("nbf", 0)
        name = found.claims.get(self._claim)
        return name if isinstance(name, str) and isinstance(begins, int | float) and begins <= time.time() else None
