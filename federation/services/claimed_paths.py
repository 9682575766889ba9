"""Which files of a change one may not commit, by the claims that stand and by what the charter wants claimed; asks no database."""

import unicodedata
from collections.abc import Iterable, Sequence
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
    mine: bool


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A file that may not be committed: `claim` is whose, None: nobody's, and the charter wants it claimed."""

    path: str
    resource: str
    claim: Standing | None


def obstacles(paths: Iterable[str], claims: Sequence[Standing], required: Sequence[str], *, prefix: str) -> list[Obstacle]:
    """Return what stands in the way of committing these paths, named from the root of their repository.

    `prefix` is what the names of its files begin with, such as `file:`. Raises InvalidInput for a name in `required` that is none.
    """
    others, mine = ([claim for claim in claims if claim.mine is own] for own in (False, True))
    wanted = [resources.parsed(name, field="charter, claims.required") for name in required]
    found = []
    for path in paths:
        # Not parsed: a file may have a name that nobody can claim but with its folder.
        resource = Resource(unicodedata.normalize("NFC", f"{prefix}{path}"))
        claim = next((claim for claim in others if Resource(claim.resource).covers(resource)), None)
        if claim is not None:
            found.append(Obstacle(path, resource.name, claim))
        elif any(each.covers(resource) for each in wanted) and not any(Resource(claim.resource).covers(resource) for claim in mine):
            found.append(Obstacle(path, resource.name, None))
    return found


def in_words(obstacle: Obstacle, *, me: str) -> str:
    """Return what is in the way of one file and what to do, in one line."""
    claim, path = obstacle.claim, obstacle.path.encode(errors="backslashreplace").decode()
    if claim is None:
        name = obstacle.resource.encode(errors="backslashreplace").decode()
        return f"{path}: the charter wants it claimed before it is changed, and {me} has no claim: claim {name}"
    folder = "" if claim.resource == obstacle.resource else f", as {claim.resource}"
    doing = f" ({claim.description})" if claim.description else ""
    return f"{path}: claimed by {claim.holder} until {claim.expires_at:%Y-%m-%d %H:%M:%S %Z}{folder}{doing}"
