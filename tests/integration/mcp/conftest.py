"""The front door on a free port of loopback, and agents that call it with tokens of their own through the real client."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import uvicorn
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from pydantic import SecretStr

from federation import frontdoor
from federation.delivery.app import make
from federation.delivery.voices import PartVoice
from federation.mcp.connections import Server
from federation.mcp.door import Door
from federation.mcp.tools import memories, retrieval
from federation.services import agents
from federation.settings import Settings
from federation.transaction import Transactions
from tests.integration.conftest import Recorder, with_agents
from tests.integration.mcp.publishing import STALE_S, publishing

AGENTS = ("ada", "bob", "dan", "eve")
# Made for each client, it would cost more than what most of them do, though none speaks TLS.
UNUSED = ssl.create_default_context()


class Strict(Client[StreamableHttpTransport]):
    """A client that holds each answer against what the tool says that it answers; `declared` is what the door's tools say, as far as known."""

    declared: dict[str, dict[str, Any]]

    async def call_tool(self, name: str, *args: Any, **options: Any) -> Any:
        """Return the answer. Raises what jsonschema raises for one that the tool's output schema does not allow."""
        if not self.declared:
            self.declared |= {tool.name: closed(tool.output_schema) for tool in await self.list_tools()}
        answer = await super().call_tool(name, *args, **options)
        if not answer.is_error:
            checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
            jsonschema.Draft202012Validator(self.declared[name], format_checker=checker).validate(answer.structured_content)
        return answer


def closed(schema: Any) -> Any:
    """Return the schema with objects that have no properties but the declared ones, and have all of these but those with a default."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(properties := schema.get("properties"), dict):
        found |= {"additionalProperties": False, "required": [name for name, each in properties.items() if "default" not in each]}
    return found


class House:
    """A front door that runs, the tokens of its agents, and what stands behind it."""

    def __init__(self, url: str, door: Door, database_url: str, tokens: dict[str, str]) -> None:
        self.url, self.door, self.database_url, self.tokens = url, door, database_url, tokens
        self.transactions = door.transactions
        self.declared: dict[str, dict[str, Any]] = {}

    def client(self, name: str, **options: Any) -> Strict:
        """Return the client of an agent, not yet connected."""
        client = Strict(StreamableHttpTransport(f"{self.url}/mcp", auth=self.tokens[name], verify=UNUSED), **options)
        client.declared = self.declared
        return client

    async def heard(self, key: str) -> None:
        """Return as soon as somebody waits for a key."""
        async with asyncio.timeout(60):
            while not any(subscribed == key for _, subscribed in self.door.notifications._subscriptions):
                await asyncio.sleep(0.01)


@contextmanager
def serving(door: Door) -> Iterator[str]:
    """Serve in a thread of this process; yield the URL without a path."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept_s, url = frontdoor.KEEP_ALIVE_S, f"http://127.0.0.1:{listening.getsockname()[1]}"
        given = uvicorn.Config(frontdoor.web(door), log_config=None, ws="none", timeout_graceful_shutdown=1, timeout_keep_alive=kept_s)
        server = Server(given, listening)
        thread = threading.Thread(target=server.run)
        thread.start()
        deadline = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.started
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def tokens_of(transactions: Transactions) -> dict[str, str]:
    """Return a token for each agent of a database."""
    with transactions.begin("test:setup") as session:
        return {name: agents.issue_token(session, name) for name in AGENTS}


@pytest.fixture
def tokens(transactions: Transactions) -> dict[str, str]:
    """A token for each agent of this test's database."""
    return tokens_of(transactions)


@contextmanager
def house_of(transactions: Transactions, database_url: str, tokens: dict[str, str], **settings: Any) -> Iterator[House]:
    """A front door over HTTP on these transactions, whose artifacts lie in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        door = Door(transactions, Settings(**{"data_dir": Path(folder), **settings}), database_url=database_url)
        with serving(door) as url:
            yield House(url, door, database_url, tokens)


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[House]]:
    """Opens a front door, for tests that bring their own transactions."""
    return house_of


@pytest.fixture
def house(postgres: Any, database: str, transactions: Transactions, tokens: dict[str, str]) -> Iterator[House]:
    """A front door over HTTP whose executions go nowhere."""
    with house_of(transactions, postgres.as_role("federation_app", database), tokens) as opened:
        yield opened


@pytest.fixture(scope="module")
def lasting_house(postgres: Any, stock: Any, watch: Any) -> Iterator[House]:
    """The same, shared by the tests of a module: for those that leave nothing, or nothing that is in another's way."""
    with stock.lend() as url:
        with (
            with_agents(postgres, url, Recorder()) as transactions,
            house_of(transactions, postgres.as_role("federation_app", url), tokens_of(transactions)) as opened,
        ):
            yield opened
        assert watch.flaws(url) == []


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the door, which is in this process, wait for a worker on a loaded machine."""
    monkeypatch.setattr(retrieval, "FOUND_WITHIN_S", 240.0)
    monkeypatch.setattr(memories, "RANKED_WITHIN_S", 240.0)


@pytest.fixture(scope="module")
def spine(postgres: Any, activemq: Any, template: str, tmp_path_factory: pytest.TempPathFactory, serve: Any) -> Iterator[Any]:
    """A front door with ActiveMQ and the worker of one node, `solo` (developer), behind it."""
    postgres.start()
    activemq.start()
    folder: Path = tmp_path_factory.mktemp("spine")
    (folder / "solo.toml").write_text(
        'role = "developer"\nconcurrency = 2\npool = "threads"\ntags = ["frag"]\n'
        'engines = ["llamacpp", "minilm"]\nmodels = ["all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"]\n'
    )
    with postgres.database(owner="federation_owner", template=template) as owner_url:
        database_url, service_url = (postgres.as_role(role, owner_url) for role in ("federation_app", "federation_service"))
        transactions = publishing(database_url, service_url, activemq.url, folder)
        with transactions.begin("test:setup") as session:
            tokens = {name: agents.add(session, name, role) for name, role in {"ada": "lead", "bob": "developer", "dan": "developer"}.items()}
        ours = {
            "FEDERATION_DATA_DIR": str(folder),
            "FEDERATION_WORKERS_DIR": str(folder),
            "FEDERATION_DATABASE_URL": database_url,
            "FEDERATION_DATABASE_SERVICE_URL": service_url,
            "FEDERATION_BROKER_URL": activemq.url,
            "FEDERATION_NODE_BEAT_S": "0.5",
            "FEDERATION_NODE_STALE_S": str(STALE_S),
        }
        celery = [sys.executable, "-m", "celery", "-A", "federation"]
        with (
            (folder / "worker.log").open("wb") as log,
            subprocess.Popen([*celery, "worker", "-Q", "solo"], env=os.environ | ours, stdout=log, stderr=log, cwd=folder) as worker,
            # It sweeps what could not be sent at once.
            subprocess.Popen([*celery, "beat"], env=os.environ | ours, stdout=log, stderr=log, cwd=folder) as beat,
        ):
            try:
                with serve(transactions, database_url, tokens, vectors_dir=folder / "vectors") as house:
                    asyncio.run(announced(house, worker, folder / "worker.log"))
                    yield house
            finally:
                for process in (beat, worker):
                    process.terminate()
                    try:
                        process.wait(20)
                    except subprocess.TimeoutExpired:
                        process.kill()
        transactions.engine.dispose()
        transactions.service.dispose()


async def announced(house: Any, worker: subprocess.Popen[bytes], log: Path) -> None:
    """Return when the worker's node is in the pulse."""
    async with house.client("ada") as ada, asyncio.timeout(120):
        while not any(row["kind"] == "node" and not row["stale"] for row in (await ada.call_tool("federation_pulse")).structured_content["rows"]):
            assert worker.poll() is None, log.read_text()
            await asyncio.sleep(0.1)


@pytest.fixture
def attesting(postgres: Any, database: str, transactions: Transactions, tokens: dict[str, str], serve: Any, tmp_path: Path) -> Iterator[Any]:
    """A front door whose own key attests, as in a running federation."""
    url, service = (postgres.as_role(f"federation_{role}", database) for role in ("app", "service"))
    given = Settings(data_dir=tmp_path, broker_url=SecretStr("activemq://nobody@127.0.0.1:9/"), database_service_url=SecretStr(service))
    voice = PartVoice(make(lambda: given))
    voiced = Transactions(transactions.engine, transactions._publisher, service=transactions.service, voice=voice)
    with serve(voiced, url, tokens) as opened:
        yield opened


@pytest.fixture
def alone(postgres: Any, database: str, tokens: dict[str, str], serve: Any, tmp_path: Path) -> Iterator[Any]:
    """A front door that would publish to an ActiveMQ which is not there; no node is alive."""
    database_url, service_url = (postgres.as_role(role, database) for role in ("federation_app", "federation_service"))
    opened = publishing(database_url, service_url, "activemq://nobody:secret@127.0.0.1:9/", tmp_path)
    with serve(opened, database_url, tokens) as house:
        yield house
    opened.engine.dispose()
    opened.service.dispose()
