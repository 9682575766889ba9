"""`federation model serve` and `federation model test`: keep the model server of a node's file running, and ask one something."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from federation.cli.console import console, errors, inert, print_json
from federation.cli.display import Display
from federation.delivery import machine
from federation.delivery.models import engine_of, may_be_asked
from federation.engines import catalogue, digests
from federation.engines.contracts import Asked, ChatEngine, ChatMessage, Completion
from federation.errors import InvalidInput, NotFound, Refused, SettingsError
from federation.local.home import Home
from federation.local.lock import exclusive
from federation.local.model_parts import Serving
from federation.local.slot import Backoff
from federation.local.state import Phase, View
from federation.local.supervisor import Supervisor
from federation.placement.declared import declared
from federation.placement.model_server import ModelServer
from federation.settings import settings

# As other nodes and their breakers see it, a server that dies is back soon.
BACKOFF = Backoff(first_s=1.0, most_s=60.0, settled_s=60.0)
QUESTION = "What is the capital of France? Answer in one word."

Name = Annotated[str, typer.Argument(metavar="NAME", help="The server, as a node's file calls it.")]
OfNode = Annotated[str | None, typer.Option("--node", metavar="NODE", help="The node whose file has it; needed where several differ.")]


def serve(name: Name, node: OfNode = None) -> None:
    """Serve a model for the nodes, and keep it running until Ctrl-C.

    A GGUF file is served by llama.cpp, a folder by vLLM, with all cards of this machine. It is started again when it dies.
    """
    server = _server(name, node)
    if server.weights is None:
        raise SettingsError(f"server {name} of the node's file names no `weights`, so there is nothing to serve")
    if server.url.startswith("https:"):
        raise SettingsError(f"server {name}: got {server.url}, wants http: what serves here speaks no TLS; put a proxy with TLS before it")
    if server.remote and server.key_file is None:
        raise Refused("A model server that others reach wants a key:", f"name its file in `key_file` of server {name}, or serve it on loopback.")
    home = Home(settings().data_dir / "models" / f"{server.name}-{server.port}")
    home.create()
    engine, told = engine_of(server), False

    def show(view: View) -> None:
        nonlocal told
        display.show(view)
        if view.phase is Phase.RUNNING and not told:
            told = True
            display.say(inert(f"{server.model} is served at {server.url}; it logs to {home.log(server.name)}. Stop it with Ctrl-C."))

    part = _serving(server, server.weights).part(is_ready=engine.is_healthy, check=lambda: _check(server))
    with exclusive(home), Display() as display:
        Supervisor([[part]], home, on_change=show, backoff=BACKOFF, started_by="model serve").run()
    if not told:
        raise KeyboardInterrupt  # asked to stop before it was ready


def _serving(server: ModelServer, weights: Path) -> Serving:
    cards = len(machine.cards_gib()) if server.gpus is None else server.gpus
    return Serving(
        name=server.name,
        model=server.model,
        weights=weights,
        digest=digests.checked(server.model, weights),
        host=server.host,
        port=server.port,
        window=server.window,
        parallel=server.parallel,
        cards=cards,
        threads=len(os.sched_getaffinity(0)),
        key_file=server.key_file,
        vllm_python=settings().vllm_python,
    )


def _check(server: ModelServer) -> None:
    # Each start reads the files anew, and so each start looks at them anew.
    assert server.weights is not None
    digests.checked(server.model, server.weights)


def try_out(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A server of a node's file, or an engine or model of this machine.")],
    node: OfNode = None,
    prompt: Annotated[str, typer.Option(help="What it is asked.")] = QUESTION,
    max_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a model something, and show its answer with counts and times.

    Exit code 69 when it does not answer.
    """
    engine = _engine(name, node)
    window, digest = engine.window, engine.digest()
    asked = Asked([ChatMessage("user", prompt)], max_tokens=max_tokens)

    def hear(part: str) -> None:
        if not as_json:
            console.print(inert(part), end="")

    completion = engine.complete(asked, hear=hear)
    if as_json:
        print_json(json.dumps({"model": engine.name, "window": window, "model_digest": digest, **asdict(completion)}, indent=2))
        return
    console.print()
    errors.print(inert(f"{engine.name}: {_told(completion)}; window {window or 'not told'}; weights {digest or 'not told'}"))


def _told(completion: Completion) -> str:
    rate = completion.completion_tokens / completion.seconds
    times = f"in {completion.seconds:.2f} s ({rate:.0f}/s), the first part after {completion.first_part_s or 0:.2f} s"
    return f"{completion.prompt_tokens} tokens read, {completion.completion_tokens} written {times}"


def _engine(name: str, node: str | None) -> ChatEngine:
    known = [entry for entry in catalogue.CHAT if name.casefold() in (entry.name, entry.model.casefold())]
    if known and node is None and name not in _names(node):
        return catalogue.chat(known[0].name)
    server = _server(name, node)
    if not may_be_asked(server):
        raise Refused("What agents ask stays here:", f"server {name} is on another machine; set FEDERATION_REMOTE_MODELS=true if it may be asked.")
    return engine_of(server)


def _names(node: str | None) -> list[str]:
    return [server.name for each in declared() if node in (None, each.name) for server in each.servers]


def _server(name: str, node: str | None) -> ModelServer:
    """Return the server of this name. Raises NotFound, InvalidInput where nodes have different ones of it."""
    found = {each.name: server for each in declared() if node in (None, each.name) for server in each.servers if server.name == name}
    if not found:
        raise NotFound("model server", name, _names(node))
    if len(set(found.values())) > 1:
        raise InvalidInput("--node", node, f"one of {', '.join(sorted(found))}, whose files have different servers {name}")
    return next(iter(found.values()))
