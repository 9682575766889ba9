"""Which files of a change one may not commit, by the claims that stand, by the tokens that one has, and by what the charter wants claimed.

Asks no database.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from federation.services import resources
from federation.services.resources import Resource


@dataclass(frozen=True, slots=True)
class Standing:
    """A claim that stands, as who looks at it sees it."""

    resource: str
    holder: str
    expires_at: datetime
    description: str
    # The fencing token, where it is one's own.
    token: int | None

    @property
    def mine(self) -> bool:
        """Whether who looks at it holds it."""
        return self.token is not None


@dataclass(frozen=True, slots=True)
class Token:
    """A fencing token that one has, and what it was given for."""

    resource: str
    number: int


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A file that may not be committed.

    Because of a `claim` of somebody else's, or of one's own whose token one does not have but at most an older one; or, where nobody has claimed
    it, because the claim of one's `token` is over, or because the charter wants it claimed.
    """

    path: str
    resource: str
    claim: Standing | None
    token: Token | None = None


def obstacles(paths: Iterable[str], claims: Sequence[Standing], required: Sequence[str], *, prefix: str, tokens: Mapping[str, int]) -> list[Obstacle]:
    """Return what stands in the way of committing these paths, named from the root of their repository.

    `prefix` is what the names of its files begin with, such as `file:`; `tokens` are those that one has, by resource. Raises InvalidInput for a
    name in `required` that is none.
    """
    wanted = [resources.parsed(name, field="charter, claims.required") for name in required]
    found = []
    for path in paths:
        # Not parsed: a file may have a name that nobody can claim but with its folder.
        resource = Resource(unicodedata.normalize("NFC", f"{prefix}{path}"))
        covering = [claim for claim in claims if Resource(claim.resource).covers(resource)]
        claim = next((claim for claim in covering if not claim.mine), None)
        if claim is not None:
            found.append(Obstacle(path, resource.name, claim))
        elif any(tokens.get(claim.resource) == claim.token for claim in covering):
            continue
        elif covering:
            [claim, *_] = covering
            found.append(Obstacle(path, resource.name, claim, _token(tokens, claim.resource)))
        elif over := [name for name in tokens if Resource(name).covers(resource)]:
            found.append(Obstacle(path, resource.name, None, _token(tokens, over[0])))
        elif any(each.covers(resource) for each in wanted):
            found.append(Obstacle(path, resource.name, None))
    return found


def _token(tokens: Mapping[str, int], resource: str) -> Token | None:
    return Token(resource, tokens[resource]) if resource in tokens else None


def in_words(obstacle: Obstacle, *, me: str) -> str:
    """Return what is in the way of one file and what to do, in one line."""
    claim, token, path = obstacle.claim, obstacle.token, obstacle.path.encode(errors="backslashreplace").decode()
    if claim is not None and claim.mine:
        known = "no token of it" if token is None else f"token {token.number} of an earlier one"
        return f"{path}: {me} holds {claim.resource} with token {claim.token}, and this repository knows {known}"
    if token is not None and claim is None:
        return f"{path}: {me}'s claim on {token.resource} with token {token.number} is over, so others may have changed it since"
    if claim is None:
        name = obstacle.resource.encode(errors="backslashreplace").decode()
        return f"{path}: the charter wants it claimed before it is changed, and {me} has no claim: claim {name}"
    folder = "" if claim.resource == obstacle.resource else f", as {claim.resource}"
    doing = f" ({claim.description})" if claim.description else ""
    return f"{path}: claimed by {claim.holder} until {claim.expires_at:%Y-%m-%d %H:%M:%S %Z}{folder}{doing}"
