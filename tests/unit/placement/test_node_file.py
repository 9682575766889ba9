"""Node files: the three that ship, and what is said about one that is wrong."""

from pathlib import Path

import pytest

from federation.errors import NotFound, SettingsError
from federation.placement.node import Gpu
from federation.placement.node_file import names, node_file


def test_shipped_nodes_are_what_the_design_says() -> None:
    assert names() == ["aorus", "baby", "taichi"]
    taichi, aorus, baby = node_file("taichi"), node_file("aorus"), node_file("baby")
    assert [node.role for node in (taichi, aorus, baby)] == ["lead", "developer", "analyst"]
    assert taichi.cards() == (Gpu(kind="RTX 5090", vram_gib=32),) * 2
    assert set(aorus.tags) == {"frag", "artifacts"}
    assert baby.gpus is None
    assert not any(node.simulated for node in (taichi, aorus, baby))
    assert all("minilm" in node.engines for node in (taichi, aorus, baby))


def test_unknown_node_names_the_nearest() -> None:
    with pytest.raises(NotFound, match="no node 'taichy'; nearest: taichi"):
        node_file("taichy")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x", "role = ", "is not TOML"),
        ("x", "", "role: got .* wants: Field required"),
        ("x", 'role = "pilot"', r"role: got 'pilot', wants a role of the charter .*charter\.toml: lead, developer, analyst"),
        ("x", 'role = "lead"\nconcurrency = 0', "concurrency: got 0, wants: Input should be greater than or equal to 1"),
        ("x", 'role = "lead"\npool = "solo"', "pool: got 'solo', wants: Input should be 'prefork' or 'threads'"),
        ("x", 'role = "lead"\n[gpus]\ncount = 2', "gpus.vram_gib"),
        ("x", 'role = "lead"\ncolour = "red"', "colour: got 'red', wants: Extra inputs are not permitted"),
        ("events", 'role = "lead"', "is the name of a queue of the federation"),
    ],
)
def test_wrong_file_is_named_with_what_it_got_and_what_it_wants(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / f"{name}.toml").write_text(text)
    with pytest.raises(SettingsError, match=said) as raised:
        node_file(name, tmp_path)
    assert str(tmp_path / f"{name}.toml") in str(raised.value)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="FEDERATION_WORKERS_DIR"):
        names(tmp_path / "nowhere")


SERVED = """
role = "lead"
engines = ["minilm"]
models = ["all-MiniLM-L6-v2"]
[[servers]]
name = "qwen"
model = "Qwen2.5-7B-Instruct"
url = "http://127.0.0.1:8001/"
[[servers]]
name = "away"
model = "Qwen2.5-7B-Instruct"
url = "https://models.example/openai/v1"
"""


def test_a_node_has_the_models_of_its_servers(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(SERVED)
    declared = node_file("x", tmp_path)
    assert declared.engines == ("minilm", "openai")
    assert declared.models == ("all-MiniLM-L6-v2", "Qwen2.5-7B-Instruct")
    assert [(server.url, server.remote) for server in declared.servers] == [
        ("http://127.0.0.1:8001/v1", False),
        ("https://models.example/openai/v1", True),
    ]


SERVERS = '[[servers]]\nname = "a"\nmodel = "m"\nurl = "http://127.0.0.1:1"\nparallel = 16\n[[servers]]\nname = "b"\nmodel = "m"\nurl = "http://127.0.0.1:2"\n'


@pytest.mark.parametrize(
    ("line", "places"),
    [("", 20), ("concurrency = 3", 3), ('pool = "prefork"', 1), ('engines = ["minilm"]', 1)],
)
def test_a_node_that_only_asks_servers_has_as_many_places_as_they_have_unless_it_says_how_many(tmp_path: Path, line: str, places: int) -> None:
    (tmp_path / "x.toml").write_text(f'role = "lead"\n{line}\n{SERVERS}')
    assert node_file("x", tmp_path).concurrency == places


def test_a_node_has_no_more_places_than_a_file_may_ask_for(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(f'role = "lead"\n{SERVERS.replace("16", "4000")}')
    assert node_file("x", tmp_path).concurrency == 256


@pytest.mark.parametrize("may", [True, False])
def test_a_node_is_tagged_that_has_a_server_which_may_write_summaries(tmp_path: Path, may: bool) -> None:
    (tmp_path / "x.toml").write_text(f'role = "lead"\ntags = ["fast"]\n{SERVERS}summarises = {str(may).lower()}\n')
    assert node_file("x", tmp_path).tags == (("fast", "summarises") if may else ("fast",))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('url = "8001"', "servers.0.url: got '8001', wants: .*a URL such as http://127.0.0.1:8001"),
        ('url = "http://user:secret@127.0.0.1"', "a key goes into a file, named in key_file"),
        ('url = "http://127.0.0.1:8001"\nkey_file = "key"', "servers.0.key_file: got 'key', wants: .*an absolute path"),
        ('url = "http://127.0.0.1:8001"\n[[servers]]\nname = "a"\nmodel = "m"\nurl = "http://[::1]:1"', "a stands there more than once"),
    ],
)
def test_wrong_server_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "x.toml").write_text(f'role = "lead"\n[[servers]]\nname = "a"\nmodel = "m"\n{line}\n')
    with pytest.raises(SettingsError, match=said):
        node_file("x", tmp_path)
