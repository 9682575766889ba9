"""Chat with a model server over OpenAI's API (vLLM, llama.cpp's server): streams, waits for nothing without a limit, follows no redirect or proxy.

Over the standard library's client and not over httpx: its socket can be shut down from another thread, which ends a stream that nobody reads.
"""

import http.client
import json
import math
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from federation.engines.contracts import Asked, Completion, Halt, Hear, Meanwhile, nobody, nothing
from federation.engines.queues import depth_of
from federation.engines.replies import Reply, error_of, whole
from federation.errors import EngineUnavailable, ModelUnavailable

CONNECT_S: Final = 3.0
# For questions that cost a server nothing.
GLANCE_S: Final = 3.0
_LONGEST_LINE: Final = 2**20
_LONGEST_ERROR: Final = 2**16
_DIGEST: Final = re.compile(r"(?:^|@)sha256:([0-9a-f]{64})$")


@cache
def _trust() -> ssl.SSLContext:
    # Made for each call, it would cost more than the rest of the call.
    return ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of its model: tokens that it reads at once, and the digest of its weights, both None where it does not say."""

    window: int | None
    digest: str | None


class ModelServer:
    """One model of one server; safe to share between threads, because each call has a connection of its own."""

    def __init__(self, server: str, *, url: str, model: str, key_file: Path | None = None, first_part_s: float = 60.0, part_s: float = 20.0) -> None:
        """`first_part_s` and `part_s` are the seconds without the first and without the next part after which it counts as hanging."""
        self.server, self.name = server, model
        self._url, self._key_file = urlsplit(url), key_file
        self._first_part_s, self._part_s = first_part_s, part_s
        self._asking = threading.Lock()
        self._served: Served | EngineUnavailable | ModelUnavailable | None = None
        self._served_at = -math.inf
        self._told = f"model server {server} ({self._url.scheme}://{self._url.netloc})"

    @property
    def window(self) -> int:
        """Return the tokens that the model reads at once; 0 if the server does not say. Raises EngineUnavailable, ModelUnavailable."""
        return self.served().window or 0

    def digest(self) -> str | None:
        """Return the digest that the server was started with, None if it tells none. Raises EngineUnavailable, ModelUnavailable."""
        return self.served().digest

    def served(self) -> Served:
        """Ask the server what it has: a restart may have changed it; who comes while another asks has the same answer.

        Raises EngineUnavailable, ModelUnavailable if it has another model.
        """
        began = time.monotonic()
        with self._asking:
            # So of many questions at once not each asks first, and a server that hangs does so once for all of them.
            if self._served_at < began:
                try:
                    self._served = self._ask()
                except (EngineUnavailable, ModelUnavailable) as error:
                    self._served = error
                self._served_at = time.monotonic()
            found = self._served
        if isinstance(found, Served):
            return found
        assert found is not None
        raise type(found)(str(found)) from found

    def _ask(self) -> Served:
        status, said = self._get("/models")
        models = said.get("data")
        if status != http.client.OK or not isinstance(models, list):
            raise error_of(self._told, status if status != http.client.OK else 500, said)
        for model in models:
            names = [model.get("id"), *(model.get("aliases") or ())]
            if self.name in names:
                # llama.cpp tells tags of a model, vLLM further names of it.
                tags = [*(model.get("tags") or ()), *(other.get("id") for other in models if str(other.get("id")).startswith(f"{self.name}@"))]
                digest = next((found[1] for tag in tags if (found := _DIGEST.search(str(tag)))), None)
                return Served(model.get("max_model_len") or (model.get("meta") or {}).get("n_ctx"), digest)
        have = whole(", ".join(str(model.get("id")) for model in models)) or "none"
        raise ModelUnavailable(f"{self._told} does not have {self.name} (it has {have}); correct `model` in the node's file")

    def is_healthy(self) -> bool:
        """Say whether the server answers and can take requests."""
        try:
            return self._get("/health", from_root=True)[0] == http.client.OK
        except (EngineUnavailable, ModelUnavailable):
            return False

    def queue(self) -> int | None:
        """Return how many requests the server has, running or waiting; None if it does not tell. Raises EngineUnavailable, ModelUnavailable."""
        status, said = self.get("/metrics", from_root=True)
        return depth_of(said.decode("utf-8", "replace")) if status == http.client.OK else None

    def complete(self, asked: Asked, *, hear: Hear = nobody, halt: Halt | None = None, meanwhile: Meanwhile = nothing) -> Completion:
        """Answer, and tell each part as it comes.

        Raises ContextLengthError if the prompt is longer than the window, InvalidInput for a request that the server does not take, EngineUnavailable
        for one that fails, is busy, breaks off or hangs, ModelUnavailable for a wrong key or model, Halted.
        """
        body = json.dumps({"model": self.name, **asked.request()}).encode()
        reply, halt = Reply(self._told, hear), halt or Halt()
        with self._connected(self._first_part_s) as connection:
            line: socket.socket = connection.sock

            def end() -> None:
                # Wakes whoever reads; the server sees the end of the connection, and stops.
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

            with halt.by(end):
                try:
                    path = self._url.path + ("/completions" if asked.raw else "/chat/completions")
                    connection.request("POST", path, body, self._headers() | {"Content-Type": "application/json"})
                    meanwhile()
                    self._read(connection, line, reply)
                except (EngineUnavailable, OSError, http.client.HTTPException):
                    # Of a connection that was shut down.
                    halt.check()
                    raise
        return reply.completion()

    def _read(self, connection: http.client.HTTPConnection, line: socket.socket, reply: Reply) -> None:
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise error_of(self._told, response.status, _parsed(response.read(_LONGEST_ERROR)))
        for event in self._events(response):
            reply.take(event)
            if reply.has_begun:
                line.settimeout(self._part_s)

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        """Yield the events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html) as these servers write them: a line each."""
        while line := response.readline(_LONGEST_LINE):
            if line.startswith(b"data:"):
                text = line.removeprefix(b"data:").strip()
                if text == b"[DONE]":
                    return
                yield _parsed(text)

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
        """Yield a connection whose reads wait this long. Raises EngineUnavailable for whatever goes wrong on it."""
        assert self._url.hostname is not None
        secure = self._url.scheme == "https"
        connection = (
            http.client.HTTPSConnection(self._url.hostname, self._url.port, timeout=CONNECT_S, context=_trust())
            if secure
            else http.client.HTTPConnection(self._url.hostname, self._url.port, timeout=CONNECT_S)
        )
        started = time.monotonic()
        try:
            connection.connect()
            connection.sock.settimeout(timeout_s)
            yield connection
        except TimeoutError as error:
            seconds = time.monotonic() - started
            raise EngineUnavailable(f"{self._told} hangs: it said nothing for too long ({seconds:.1f} s in all); try again") from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            remedy = f"start it (federation model serve {self.server}), and try again"
            raise EngineUnavailable(f"{self._told} does not answer ({why}); {remedy}") from error
        finally:
            connection.close()

    def _get(self, path: str, *, from_root: bool = False) -> tuple[int, dict[str, Any]]:
        status, body = self.get(path, from_root=from_root)
        return status, _parsed(body)

    def get(self, path: str, *, from_root: bool = False) -> tuple[int, bytes]:
        """Return status and body of a short answer. Raises EngineUnavailable, ModelUnavailable for a key that cannot be read."""
        root = self._url.path.removesuffix("/v1") if from_root else self._url.path
        with self._connected(GLANCE_S) as connection:
            connection.request("GET", root + path, headers=self._headers())
            response = connection.getresponse()
            return response.status, response.read(_LONGEST_LINE)

    def _headers(self) -> dict[str, str]:
        if self._key_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._key_file.read_text('utf-8').strip()}"}
        except (OSError, UnicodeDecodeError) as error:
            raise ModelUnavailable(f"{self._told}: its key cannot be read: {error}; correct key_file in the node's file") from error


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        # Decoded first: of bytes the reader would take halves of characters.
        said: Mapping[str, Any] = json.loads(body.decode("utf-8", "replace"))
    except ValueError:
        return {"error": {"message": body[:500].decode("utf-8", "replace")}}
    return dict(said) if isinstance(said, Mapping) else {"error": {"message": str(said)[:500]}}
