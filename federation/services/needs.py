"""What a caller asks of a node, checked against what exists: what no node has now may come, what no node ever had is a mistake."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from federation.errors import InvalidInput, NotFound
from federation.placement.declared import declared
from federation.placement.node_file import NodeFile
from federation.placement.requirements import CHAT, Requirements
from federation.services import agents
from federation.store.models.nodes import Node


def valid(session: Session, asked: Mapping[str, Any], *, of_agents: bool = False) -> Requirements:
    """Return what is asked of a node, or of agents, who have roles that no node has.

    Raises InvalidInput, NotFound for a role, node, engine, model or tag that neither a node nor a node file has.
    """
    try:
        needs = Requirements.model_validate(asked)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInput(".".join(str(part) for part in first["loc"]), first["input"], first["msg"]) from error
    if needs.role is not None and of_agents:
        agents.valid_role(needs.role)
    elif needs.role is not None:
        _require(session, "role", needs.role, lambda node: [node.role])
    if needs.node is not None:
        _require(session, "node", needs.node, lambda node: [node.name])
    if needs.engine not in {None, CHAT}:
        _require(session, "engine", needs.engine, lambda node: node.engines)
    if needs.model is not None:
        _require(session, "model", needs.model, lambda node: node.models, alike=str.casefold)
    for tag in needs.tags:
        _require(session, "tag", tag, lambda node: node.tags)
    return needs


def _require(session: Session, kind: str, name: str, of: Callable[[Node | NodeFile], Collection[str]], *, alike: Callable[[str], str] = str) -> None:
    """Pass if a node has announced this, or a node file declares it. Raises NotFound with the nearest."""
    known = {each for node in session.scalars(select(Node)) for each in of(node)}
    if alike(name) in map(alike, known):
        return
    known |= {each for node in declared() for each in of(node)}
    if alike(name) not in map(alike, known):
        raise NotFound(kind, name, known)
