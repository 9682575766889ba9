"""What a caller asks of a node, checked against what exists."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound
from federation.placement.requirements import Requirements
from federation.services import agents
from federation.store.models.nodes import Node


def valid(session: Session, asked: Mapping[str, Any]) -> Requirements:
    """Return what is asked of a node. Raises InvalidInput, NotFound for a role or node that does not exist."""
    try:
        needs = Requirements.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(".".join(str(part) for part in first["loc"]), first["input"], first["msg"]) from error
    if needs.role is not None:
        agents.valid_role(needs.role)
    if needs.node is not None and session.get(Node, needs.node) is None:
        raise NotFound("node", needs.node, session.scalars(select(Node.name)))
    return needs
