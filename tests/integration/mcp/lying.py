"""A front door that says whatever a test wants."""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from federation.local.certificates import DOOR, Certificates
from federation.mcp.signing import WANTED


def asking(actor: str, action: str, choice: str, subject: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The answer that asks for a signature."""
    return {
        "content": [{"type": "text", "text": "sign this"}],
        "isError": True,
        "_meta": {WANTED: {"actor": actor, "action": action, "choice": choice, "subject": subject, "content": content, **more}},
    }


def done(told: Any = None) -> dict[str, Any]:
    """The answer of a call that was made."""
    return {"content": [], "isError": False, "structuredContent": told}


@contextmanager
def lying(answer: Callable[[BaseHTTPRequestHandler, dict[str, Any]], None], *, certificates: Certificates | None = None) -> Iterator[str]:
    """Something that answers each request in this way."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with suppress(OSError):  # whoever asked may have gone
                answer(self, asked)

        def log_message(self, *given: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        server.daemon_threads = True
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.certificate(DOOR), certificates.key(DOOR))
            server.socket = context.wrap_socket(server.socket, server_side=True)
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"{'https' if certificates else 'http'}://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def send(door: BaseHTTPRequestHandler, body: bytes, *, status: int = 200, **headers: str) -> None:
    """Answer with these bytes."""
    door.send_response(status)
    for name, value in ({"content-type": "application/json", "content-length": str(len(body))} | headers).items():
        door.send_header(name.replace("_", "-"), value)
    door.end_headers()
    door.wfile.write(body)


def result(asked: dict[str, Any], told: dict[str, Any]) -> bytes:
    """The answer to a request, in the form of the protocol."""
    return json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": {"resultType": "complete", **told}}).encode()


@contextmanager
def answering(status: int, *results: dict[str, Any], certificates: Certificates | None = None) -> Iterator[str]:
    """Something that gives these answers to whatever is asked, one after the other, and the last one from then on."""
    left = list(results)

    def answer(door: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        told = left.pop(0) if len(left) > 1 else left[0] if left else None
        send(door, b"" if told is None else result(asked, told), status=status)

    with lying(answer, certificates=certificates) as url:
        yield url
