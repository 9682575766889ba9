"""The models of a node, in the order in which it asks them: its servers as its file names them, then the model of its own process."""

from functools import cache
from itertools import chain

from federation.engines import catalogue, openai
from federation.engines.routing import Router, Source
from federation.placement import model_server
from federation.placement.model_server import ModelServer
from federation.placement.node_file import NodeFile, node_file
from federation.settings import settings


def may_be_asked(server: ModelServer) -> bool:
    """Say whether a node may ask this server: what agents ask stays on the machine unless a setting lets it out."""
    return settings().remote_models or not server.remote


def engine_of(server: ModelServer) -> openai.ModelServer:
    """Return what asks this server."""
    return openai.ModelServer(
        server.name,
        url=server.url,
        model=server.model,
        key_file=server.key_file,
        first_part_s=server.first_part_s,
        part_s=server.part_s,
    )


def router_of(declared: NodeFile) -> Router:
    """Return the models that a node of this file may ask."""
    servers = (_served(server) for server in declared.servers if may_be_asked(server))
    # Without servers placement alone says what it is asked.
    own = [entry for entry in catalogue.CHAT if entry.name in declared.engines or not declared.servers]
    # Where the file says which models are small, the one of the process is.
    is_small = any(server.small for server in declared.servers)
    return Router([*chain(servers, (_own(entry.name, entry.model, is_small=is_small) for entry in own))])


def _served(server: ModelServer) -> Source:
    engine = engine_of(server)
    return Source(
        server.name,
        model_server.ENGINE,
        server.model,
        lambda: engine,
        remote=server.remote,
        is_small=server.small,
        summarises=server.summarises,
        places=server.parallel,
        queue=engine.queue,
    )


def _own(name: str, model: str, *, is_small: bool) -> Source:
    return Source(name, name, model, lambda: catalogue.chat(name), is_small=is_small)


@cache
def router(node: str) -> Router:
    """Return the router of a node of this process, which remembers who rests. Raises NotFound, SettingsError."""
    return router_of(node_file(node))
