"""Which nodes can take an execution, and in words what is missing where none can; decides from values, reads nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from federation.placement.node import NodeView
from federation.placement.requirements import CHAT, CHAT_ENGINES, Requirements


@dataclass(frozen=True, slots=True)
class Unplaceable:
    """No live node can take the execution; `missing` says in words what is missing, one entry a requirement."""

    requirements: Requirements
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(self.missing)


@dataclass(frozen=True, slots=True)
class _Check:
    """One requirement: as it is asked for, what a node has of it, and whether that is enough."""

    asked: str
    has: Callable[[NodeView], str]
    fits: Callable[[NodeView], bool]


def capable(requirements: Requirements, nodes: Sequence[NodeView]) -> list[NodeView] | Unplaceable:
    """Return the live nodes that have all that is required, at least one, or what is missing."""
    checks = _checks(requirements)
    fitting = [node for node in nodes if node.alive and all(check.fits(node) for check in checks)]
    return fitting or Unplaceable(requirements, _missing(checks, nodes))


def _checks(asked: Requirements) -> list[_Check]:
    checks = []
    if asked.node is not None:
        checks.append(_Check(f"node={asked.node}", lambda node: node.name, lambda node: node.name == asked.node))
    if asked.role is not None:
        checks.append(_Check(f"role={asked.role}", lambda node: node.role, lambda node: node.role == asked.role))
    if asked.gpus or asked.min_vram_gib:
        count = max(asked.gpus, 1)
        size = f" with {asked.min_vram_gib:g} GiB" if asked.min_vram_gib else ""
        checks.append(
            _Check(
                f"{count} GPU{'s' if count > 1 else ''}{size}",
                lambda node: " + ".join(f"{gpu.kind} {gpu.vram_gib:g} GiB" for gpu in node.gpus),
                lambda node: sum(gpu.vram_gib >= asked.min_vram_gib for gpu in node.gpus) >= count,
            )
        )
    if asked.engine is not None:
        wanted_engines = CHAT_ENGINES if asked.engine == CHAT else (asked.engine,)
        checks.append(
            _Check(
                f"engine={asked.engine}",
                lambda node: ", ".join(node.engines),
                lambda node: any(engine in node.engines for engine in wanted_engines),
            )
        )
    if asked.model is not None:
        wanted = asked.model.casefold()
        checks.append(
            _Check(f"model={asked.model}", lambda node: ", ".join(node.models), lambda node: wanted in map(str.casefold, node.models)),
        )
    checks.extend(_tagged(tag) for tag in asked.tags)
    return checks


def _tagged(tag: str) -> _Check:
    return _Check(f"tag={tag}", lambda node: ", ".join(node.tags), lambda node: tag in node.tags)


def _missing(checks: Sequence[_Check], nodes: Sequence[NodeView]) -> tuple[str, ...]:
    live = [node for node in nodes if node.alive]
    lacking = [check for check in checks if not any(check.fits(node) for node in live)]
    if not live and not checks:
        return (f"no node is alive ({_stale(nodes, [])})",)
    if not lacking:
        reasons = (f"{node.name} lacks {', '.join(check.asked for check in checks if not check.fits(node))}" for node in live)
        return (f"no live node has all of {', '.join(check.asked for check in checks)} ({'; '.join(reasons)})",)
    return tuple(f"no live node has {check.asked} (have: {_have(check, live)}; {_stale(nodes, [check])})" for check in lacking)


def _have(check: _Check, live: Sequence[NodeView]) -> str:
    return ", ".join(sorted({check.has(node) for node in live} - {""})) or "nothing"


def _stale(nodes: Sequence[NodeView], checks: Sequence[_Check]) -> str:
    """Name the nodes that would do if they lived."""
    names = sorted(node.name for node in nodes if not node.alive and all(check.fits(node) for check in checks))
    return f"stale: {', '.join(names)}" if names else "stale: none"
