"""JWTs of the organisation's issuer open the door for agents that were added, and for nobody else; clients learn where to get one."""

import base64
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastmcp import Client
from joserfc import jwk, jwt

from federation.errors import SettingsError
from federation.local.ports import free_port
from federation.security.issuer_keys import issuer_keys
from federation.settings import Settings

pytestmark = pytest.mark.anyio
ISSUER, URL = "https://login.example/realms/lab", "http://127.0.0.1:8765/mcp"
LISTING = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"Accept": "application/json, text/event-stream"}
KEY, OTHER_KEY = (jwk.RSAKey.generate_key(2048, {"kid": kid}) for kid in ("first", "second"))


def claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of a token that is valid, with these changes; None leaves one out."""
    now = int(time.time())
    whole = {"iss": ISSUER, "aud": URL, "sub": "ada", "iat": now, "exp": now + 600, **changed}
    return {name: value for name, value in whole.items() if value is not None}


def signed(told: dict[str, Any], *, key: jwk.RSAKey = KEY, algorithm: str = "RS256") -> str:
    return jwt.encode({"alg": algorithm, "kid": str(key.kid)}, told, key, algorithms=[algorithm])


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    path = tmp_path / "issuer.pem"
    path.write_bytes(KEY.as_pem(private=False))
    return path


@pytest.fixture
def open_house(serve: Callable[..., Any], postgres: Any, database: str, transactions: Any, tokens: dict[str, str]) -> Callable[..., Any]:
    """Open a front door that takes JWTs."""
    url = postgres.as_role("federation_app", database)
    return lambda keys: serve(transactions, url, tokens, jwt_issuer=ISSUER, jwt_keys=str(keys), mcp_url=URL)


async def status(house: Any, token: str) -> int:
    async with httpx2.AsyncClient(headers=ACCEPT | {"Authorization": f"Bearer {token}"}) as http:
        return (await http.post(f"{house.url}/mcp", json=LISTING)).status_code


async def test_a_jwt_speaks_for_the_agent_that_it_names_and_our_tokens_go_on(open_house: Any, keys_file: Path) -> None:
    with open_house(keys_file) as house:
        async with Client(f"{house.url}/mcp", auth=signed(claims(role="lead"))) as ada:
            assert (await ada.call_tool("federation_update_state", {"summary": "came by JWT"})).data.agent == "ada"
        async with house.client("bob") as bob:
            assert (await bob.call_tool("federation_update_state", {"summary": "came by token"})).data.agent == "bob"


async def test_clients_learn_where_to_get_a_token_and_nothing_else(open_house: Any, keys_file: Path) -> None:
    with open_house(keys_file) as house:
        async with httpx2.AsyncClient() as http:
            refused = await http.post(f"{house.url}/mcp", headers=ACCEPT | {"Authorization": "Bearer nonsense"}, json=LISTING)
            told = (await http.get(f"{house.url}/.well-known/oauth-protected-resource/mcp")).json()
    assert (refused.status_code, refused.text) == (401, "")
    metadata = "http://127.0.0.1:8765/.well-known/oauth-protected-resource/mcp"
    assert refused.headers["www-authenticate"] == f'Bearer resource_metadata="{metadata}"'
    assert (told["resource"], told["authorization_servers"]) == (URL, [ISSUER])


def encoded(*parts: dict[str, Any]) -> str:
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)


def signed_with_the_public_key(told: dict[str, Any]) -> str:
    text = encoded({"alg": "HS256", "typ": "JWT"}, told)
    digest = hmac.digest(KEY.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


# Deeper than a parser goes.
DEEP = base64.urlsafe_b64encode(b"[" * 5000 + b"]" * 5000).rstrip(b"=").decode()
WRONG: dict[str, Callable[[], str]] = {
    "for another audience": lambda: signed(claims(aud="https://other.example/mcp")),
    "for no audience": lambda: signed(claims(aud=None)),
    "of another issuer": lambda: signed(claims(iss="https://evil.example")),
    "of no issuer": lambda: signed(claims(iss=None)),
    "expired": lambda: signed(claims(exp=int(time.time()) - 5)),
    "for ever": lambda: signed(claims(exp=float("inf"))),
    "until no number": lambda: signed(claims(exp=float("nan"))),
    "without an end": lambda: signed(claims(exp=None)),
    "from tomorrow": lambda: signed(claims(nbf=int(time.time()) + 3600)),
    "with a beginning that is no number": lambda: signed(claims(nbf="now")),
    "of another key": lambda: signed(claims(), key=OTHER_KEY),
    "by another algorithm": lambda: signed(claims(), algorithm="RS512"),
    "unsigned": lambda: encoded({"alg": "none", "typ": "JWT"}, claims()) + ".",
    "signed with the public key": lambda: signed_with_the_public_key(claims()),
    "for nobody who was added": lambda: signed(claims(sub="mallory")),
    "for no name": lambda: signed(claims(sub=None)),
    "for a list of names": lambda: signed(claims(sub=["ada"])),
    "for a name with NUL": lambda: signed(claims(sub="ada\0")),
    "for a name of two lines": lambda: signed(claims(sub="ada\nbob")),
    "of lists within lists": lambda: f"{DEEP}.{DEEP}.{DEEP}",
    "with lists within lists": lambda: f"{encoded({'alg': 'RS256', 'typ': 'JWT'})}.{DEEP}.AAAA",
    "altered": lambda: signed(claims(sub="bob")).rsplit(".", 1)[0] + "." + signed(claims()).rsplit(".", 1)[1],
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_jwt_that_is_not_for_this_door_is_refused(open_house: Any, keys_file: Path, wrong: str) -> None:
    with open_house(keys_file) as house:
        assert await status(house, WRONG[wrong]()) == 401
        assert await status(house, signed(claims())) == 200


@pytest.fixture
def published() -> Iterator[tuple[str, dict[str, Any]]]:
    """The URL of a JWKS on loopback, and what it holds; while that is nothing, its server fails."""
    held: dict[str, Any] = {"keys": [KEY.as_dict(private=False)]}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if held else 500)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(held).encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/jwks", held
        server.shutdown()
        thread.join()


async def test_keys_come_from_a_jwks_and_may_change(open_house: Any, published: tuple[str, dict[str, Any]]) -> None:
    url, held = published
    with open_house(url) as house:
        assert await status(house, signed(claims())) == 200
        assert await status(house, signed(claims(), key=OTHER_KEY)) == 401
        held["keys"].append(OTHER_KEY.as_dict(private=False))
        house.door.access.issuer._verifier._jwks_refresh_interval = 0
        assert await status(house, signed(claims(), key=OTHER_KEY)) == 200


async def test_an_issuer_that_does_not_answer_is_no_bad_token(open_house: Any, caplog: pytest.LogCaptureFixture) -> None:
    with open_house(f"http://127.0.0.1:{free_port()}/jwks") as house, caplog.at_level(logging.WARNING):
        async with httpx2.AsyncClient(headers=ACCEPT | {"Authorization": f"Bearer {signed(claims())}"}) as http:
            told = await http.post(f"{house.url}/mcp", json=LISTING)
        assert (told.status_code, told.headers["retry-after"]) == (503, "5")
        assert told.json() == {"error": f"{ISSUER} does not tell its keys now, so no JWT can be checked; call again later"}
        # Asked once more or not.
        assert await status(house, signed(claims())) == 503
        house.door.access.issuer._verifier._jwks_refresh_interval = 0
        assert await status(house, signed(claims())) == 503
        assert await status(house, "nonsense") == 401
        assert await status(house, house.tokens["bob"]) == 200
    assert [record.message for record in caplog.records if record.name == "federation.mcp.issuer"] == ["issuer.keys_not_had"]


async def test_keys_that_are_known_serve_while_the_issuer_is_away(open_house: Any, published: tuple[str, dict[str, Any]]) -> None:
    url, held = published
    with open_house(url) as house:
        assert await status(house, signed(claims())) == 200
        house.door.access.issuer._verifier._jwks_refresh_interval = 0
        keys = held.pop("keys")
        assert await status(house, signed(claims(), key=OTHER_KEY)) == 503
        assert await status(house, signed(claims(sub="bob"))) == 200
        assert await status(house, signed(claims(exp=int(time.time()) - 5))) == 401
        held["keys"] = keys
        assert await status(house, signed(claims(), key=OTHER_KEY)) == 401


def test_a_key_of_another_kind_than_the_algorithm_stops_the_start(keys_file: Path) -> None:
    given = Settings(jwt_issuer=ISSUER, jwt_keys=str(keys_file), jwt_algorithm="ES256")
    with pytest.raises(SettingsError, match="RSAPublicKey, which signs nothing by FEDERATION_JWT_ALGORITHM=ES256"):
        issuer_keys(given)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"jwt_keys": None}, "FEDERATION_JWT_ISSUER and FEDERATION_JWT_KEYS belong together"),
        ({"jwt_keys": "/nowhere/issuer.pem"}, "FEDERATION_JWT_KEYS: /nowhere/issuer.pem cannot be read: No such file"),
        ({"jwt_keys": "issuer.pem"}, "wants an absolute path"),
        ({"jwt_keys": "/etc/passwd"}, "/etc/passwd holds no public key in PEM"),
        ({"jwt_keys": "http://login.example/jwks"}, "wants https, or a file"),
    ],
)
def test_an_issuer_whose_keys_cannot_be_used_stops_the_start(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        issuer_keys(Settings(**({"jwt_issuer": ISSUER, "jwt_keys": "/nowhere"} | changed)))
