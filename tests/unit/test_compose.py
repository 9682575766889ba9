"""What can be checked of compose/ without a container engine: schemas, names that lead nowhere, settings, passwords, the broker's file."""

import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from federation.placement import node_file
from federation.settings import Settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "compose"
FILES = ("compose.yaml", "gpu.yaml")
REFERENCE = re.compile(r"(?<!\$)\$\{(\w+)(:\?[^}]*|:-[^}]*)?\}")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The main file, with its anchors resolved."""
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]


def variables(value: Any) -> dict[str, str]:
    """Each variable that is referred to in a part of the file, with its `:?…` or `:-…`."""
    if isinstance(value, dict):
        return {name: default for item in value.values() for name, default in variables(item).items()}
    if isinstance(value, list):
        return {name: default for item in value for name, default in variables(item).items()}
    return dict(REFERENCE.findall(value)) if isinstance(value, str) else {}


def made_secrets(folder: Path) -> dict[str, str]:
    subprocess.run([FOLDER / "make-secrets.sh", folder], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in (folder / ".env").read_text().splitlines())


@pytest.mark.parametrize("name", FILES)
def test_file_follows_the_compose_specification(name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dockerfile_passes_its_linter() -> None:
    done = subprocess.run([Path(sys.executable).with_name("hadolint"), FOLDER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_dependency_is_a_service_that_can_meet_its_condition(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for the health of {other}"
            if how["condition"] == "service_completed_successfully":
                assert services[other]["restart"] == "no", f"{name} waits for the end of {other}"


def test_each_volume_is_declared_and_each_mounted_file_exists(compose: dict[str, Any], services: dict[str, dict[str, Any]]) -> None:
    used = set()
    for service in services.values():
        for volume in service.get("volumes", []):
            source = REFERENCE.sub(lambda match: (match[2] or "").removeprefix(":-"), volume).split(":")[0]
            if source.startswith("."):
                assert (FOLDER / source).exists(), volume
            else:
                used.add(source)
    assert used == set(compose["volumes"])


def test_each_of_our_variables_is_a_setting(services: dict[str, dict[str, Any]]) -> None:
    known = {f"FEDERATION_{name.upper()}" for name in Settings.model_fields}
    named = {name for service in services.values() for name in service.get("environment", {}) if name.startswith("FEDERATION_")}
    assert named
    assert named <= known


def test_settings_of_each_service_are_accepted(services: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("FEDERATION_")]:
        monkeypatch.delenv(name)
    for service in services.values():
        with monkeypatch.context() as patch:
            patch.setenv("FEDERATION_DATA_DIR", str(tmp_path))
            for name, value in service.get("environment", {}).items():
                if name.startswith("FEDERATION_"):
                    patch.setenv(name, REFERENCE.sub("0" * 48, value))
            Settings()


def test_every_node_has_a_worker_on_its_queue(services: dict[str, dict[str, Any]]) -> None:
    for node in node_file.names():
        assert services[node]["command"][-2:] == ["-Q", node]
        assert services[node]["hostname"] == node


def test_the_node_of_the_vectors_keeps_them_in_a_volume(services: dict[str, dict[str, Any]]) -> None:
    holders = [node for node in node_file.names() if "frag" in node_file.node_file(node).tags]
    for node in holders:
        where = services[node]["environment"]["FEDERATION_VECTORS_DIR"]
        assert f"vectors:{where}" in services[node]["volumes"]


def test_each_part_that_sends_keeps_a_key_in_a_volume_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    speaking = {name: service for name, service in services.items() if "FEDERATION_BROKER_URL" in service.get("environment", {})}
    # The STOMP door passes on what agents say, and says nothing itself.
    sending = {name: service for name, service in speaking.items() if name != "stomp"}
    assert {"frontdoor", "beat", "flower", *node_file.names()} == set(sending)
    for name, service in sending.items():
        assert f"keys-{name}:{service['environment']['FEDERATION_KEYS_DIR']}" in service["volumes"]


def test_extras_of_each_image_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    for service in compose["services"].values():
        asked = service.get("build", {}).get("args", {}).get("EXTRAS", "")
        assert set(filter(None, asked.split(","))) <= set(extras)


def test_ports_are_published_on_loopback_only(services: dict[str, dict[str, Any]]) -> None:
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_no_password_has_a_default_and_a_missing_one_names_the_remedy(services: dict[str, dict[str, Any]]) -> None:
    passwords = {name: default for name, default in variables(services).items() if name.endswith("PASSWORD")}
    assert passwords
    assert all(default.startswith(":?") and "make-secrets.sh" in default for default in passwords.values())


def test_make_secrets_makes_every_password_that_is_asked_for(services: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    made = made_secrets(tmp_path)
    assert set(made) == {name for name in variables(services) if name.endswith("PASSWORD")}
    assert len(set(made.values())) == len(made)
    assert all(re.fullmatch(r"[0-9a-f]{48}", password) for password in made.values())
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_make_secrets_keeps_what_is_there(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("APP_PASSWORD=mine\nMCP_PORT=9000\n")
    made = made_secrets(tmp_path)
    assert made["APP_PASSWORD"] == "mine"
    assert made["MCP_PORT"] == "9000"
    assert made_secrets(tmp_path) == made


def test_passwords_are_kept_out_of_the_repository_and_of_the_image() -> None:
    assert ".env" in (FOLDER / ".gitignore").read_text().split()
    allowed = [line for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert not any("compose" in line or "env" in line for line in allowed)


@pytest.mark.parametrize("part", ["destinationPolicy", "plugins", "systemUsage"])
def test_the_broker_in_a_container_has_the_policies_of_the_local_one(part: str) -> None:
    def section(path: Path) -> str:
        broker = next(ElementTree.parse(path).iter("{http://activemq.apache.org/schema/core}broker"))
        found = broker.find(f"{{http://activemq.apache.org/schema/core}}{part}")
        assert found is not None
        text = ElementTree.canonicalize(ElementTree.tostring(found, encoding="unicode"), strip_text=True)
        return re.sub(r'password="[^"]*"', "", text)

    assert section(FOLDER / "activemq.xml") == section(ROOT / "federation" / "local" / "activemq.xml")
