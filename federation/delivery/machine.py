"""Finds what this machine really has of what its node's file declares: cards, engines, models; loads no model."""

import logging
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from federation.delivery.models import may_be_asked
from federation.engines import catalogue
from federation.errors import PermanentError
from federation.placement import model_server
from federation.placement.model_server import ModelServer
from federation.placement.node import Gpu
from federation.placement.node_file import NodeFile
from federation.services.retrieval import FRAG

logger = logging.getLogger(__name__)

# A card of 24 GiB reports 23.99.
_NOMINAL = 0.95


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine has: memory of each card in GiB, engines that can run and their models, whether LanceDB is installed."""

    cards_gib: tuple[float, ...]
    engines: frozenset[str]
    models: frozenset[str]
    vectors: bool


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a node may announce, and what its file declares beyond that, in words."""

    gpus: tuple[Gpu, ...]
    engines: tuple[str, ...]
    models: tuple[str, ...]
    tags: tuple[str, ...]
    missing: tuple[str, ...]


def look(wanted: Collection[str], servers: Collection[ModelServer] = ()) -> Machine:
    """Return what this machine has; of the engines and models that are wanted, those alone whose files are the known ones.

    Of the servers those that may be asked: whether one answers is found out when it is, because it may come and go.
    """
    names = {name.casefold() for name in wanted}
    found = [entry for entry in catalogue.available() if {entry.name, entry.model.casefold()} & names and _is_known(entry)]
    asked = [server for server in servers if may_be_asked(server)]
    engines = frozenset((*(entry.name for entry in found), *([model_server.ENGINE] if asked else [])))
    models = frozenset((*(entry.model for entry in found), *(server.model for server in asked)))
    return Machine(cards_gib(), engines, models, vectors=None not in map(find_spec, ("lancedb", "numkong")))


def _is_known(entry: catalogue.EngineEntry[Any]) -> bool:
    # A node that announces what it then refuses to load would draw work only to fail it.
    try:
        entry.check()
    except PermanentError as error:
        logger.error("machine.weights_refused engine=%s reason=%s", entry.name, error)  # noqa: TRY400 - the reason is all that there is to know
        return False
    return True


def compare(declared: NodeFile, machine: Machine) -> Capabilities:
    """Return the declared capabilities that the machine has; a simulated node keeps all."""
    if declared.simulated:
        return Capabilities(declared.cards(), declared.engines, declared.models, declared.tags, ())
    gpus, free = [], sorted(machine.cards_gib)
    missing = []
    for card in declared.cards():
        fitting = next((size for size in free if size >= card.vram_gib * _NOMINAL), None)
        if fitting is None:
            missing.append(f"GPU {card.kind} {card.vram_gib:g} GiB")
        else:
            free.remove(fitting)
            gpus.append(card)
    known_models = {model.casefold() for model in machine.models}
    engines = tuple(engine for engine in declared.engines if engine in machine.engines)
    models = tuple(model for model in declared.models if model.casefold() in known_models)
    missing += [f"engine {engine}" for engine in declared.engines if engine not in engines]
    missing += [f"model {model}" for model in declared.models if model not in models]
    missing += [
        f"model server {server.name}: it is on another machine, and FEDERATION_REMOTE_MODELS is not true"
        for server in declared.servers
        if not may_be_asked(server)
    ]
    # A node without LanceDB and what compares cannot hold the vectors, whatever its file says.
    tags = tuple(tag for tag in declared.tags if tag != FRAG or machine.vectors)
    missing += [f"tag {tag}: LanceDB or NumKong is not installed" for tag in declared.tags if tag not in tags]
    if not any(server.summarises and may_be_asked(server) for server in declared.servers):
        tags = tuple(tag for tag in tags if tag != model_server.SUMMARISES)
    return Capabilities(tuple(gpus), engines, models, tags, tuple(missing))


def cards_gib() -> tuple[float, ...]:
    """Return the memory of each card that this machine has, in GiB."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        answer = subprocess.run(  # noqa: S603
            [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=5, check=True
        )
        return tuple(int(line) / 1024 for line in answer.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        logger.warning("machine.gpus_unknown reason=%s", error)
        return ()
