"""Each part is told its own broker URL and no other, and Flower commands only where that was asked for."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from federation.cli import fleet
from federation.local import credentials
from federation.local.certificates import Certificates
from federation.local.home import Home
from federation.settings import Settings

ELSEWHERE = "activemq://all:secret@broker.example:61613/"


def parts(home: Home, **given: Any) -> dict[str, Any]:
    made = credentials.load_or_make(home)
    database = SecretStr("postgresql://nobody@127.0.0.1:1/none")
    config = Settings(data_dir=home.data_dir, database_url=database, database_service_url=database, flower_password=SecretStr("words"), **given)
    certificates = Certificates(home.tls_dir) if config.tls else None
    users = fleet._Users(config, None if config.broker_url else made, certificates)
    found = [fleet._worker(home, config, users, "baby"), *fleet._company(home, config, users)]
    return {part.name: part for part in found}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "data")
    made.create()
    return made


def users(found: dict[str, Any]) -> dict[str, str]:
    return {name: part.environment["FEDERATION_BROKER_URL"].split("//")[1].split(":")[0] for name, part in found.items() if part.environment}


def test_each_part_has_its_own_url_of_the_local_broker_and_none_on_its_command_line(home: Home) -> None:
    found = parts(home)
    assert users(found) == {"baby": "worker", "beat": "relay", "flower": "observer", "frontdoor": "door", "stomp": "stomp"}
    for part in found.values():
        assert "activemq://" not in " ".join(map(str, part.command))


def test_a_broker_elsewhere_has_one_url_for_all_or_one_for_each_that_is_named(home: Home) -> None:
    assert users(parts(home, broker_url=SecretStr(ELSEWHERE))) == {}
    door = SecretStr(ELSEWHERE.replace("all", "door"))
    assert users(parts(home, broker_url=SecretStr(ELSEWHERE), broker_door_url=door)) == {"frontdoor": "door"}


@pytest.mark.parametrize(("control", "user"), [(False, "observer"), (True, "operator")])
def test_flower_commands_only_where_that_was_asked_for(home: Home, control: bool, user: str) -> None:
    flower = parts(home, flower_control=control)["flower"]
    assert users({"flower": flower}) == {"flower": user}
    flower.prepare()
    file = home.run_dir / "flower-settings.py"
    assert f"read_only = {not control}\n" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "words" not in " ".join(map(str, flower.command))


def test_with_tls_parts_trust_the_authority_and_flower_shows_a_certificate(home: Home) -> None:
    Certificates(home.tls_dir).make([])
    found = parts(home, tls=True)
    for name in users(found):
        url = found[name].environment["FEDERATION_BROKER_URL"]
        assert url.startswith("activemqs://")
        assert url.endswith("ca.pem")
    found["flower"].prepare()
    told = (home.run_dir / "flower-settings.py").read_text()
    assert f"certfile = {str(home.tls_dir / 'frontdoor.pem')!r}\n" in told
    assert f"keyfile = {str(home.tls_dir / 'frontdoor.key')!r}\n" in told
