"""The data directory: what is ours goes, what is not stays; secrets are closed to others."""

from pathlib import Path

import pytest

from federation.errors import LocalServiceError, SettingsError
from federation.local import home as home_module
from federation.local.home import Home, read_json, write_json


def fill(home: Home) -> None:
    """Put something into each place of ours, as a federation that ran has it."""
    home.create()
    for name in home_module._OURS:
        path = home.data_dir / name
        if path.suffix == ".json":
            write_json(path, {})
        else:
            (path / "deep").mkdir(parents=True)
            (path / "deep" / "file").write_text("x")
    (home.data_dir / "settings.json.4711").touch()  # what a crash in the middle of a write leaves


def test_purge_removes_all_that_was_made_and_the_empty_directory(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    fill(home)
    assert home.purge() == []
    assert not home.data_dir.exists()


def test_file_of_others_in_a_directory_that_we_made_stays(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    fill(home)
    (home.data_dir / "diary.txt").write_text("mine")
    (home.data_dir / "letters").mkdir()
    (home.data_dir / "letters" / "one").write_text("mine")
    assert home.purge() == [home.data_dir / "diary.txt", home.data_dir / "letters"]
    assert (home.data_dir / "letters" / "one").read_text() == "mine"


def test_file_of_others_in_a_directory_of_theirs_stays(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    home = Home(tmp_path)
    fill(home)
    assert home.purge() == [tmp_path / "diary.txt"]


def test_nothing_is_removed_where_nothing_was_made(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    assert Home(tmp_path).purge() == [tmp_path / "logs"]


def test_folder_of_others_with_a_name_of_ours_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir(mode=0o755)
    with pytest.raises(SettingsError, match=r"FEDERATION_DATA_DIR: got .*, which holds logs"):
        Home(tmp_path).create()
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_vectors_and_settings_may_be_there_first(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    (home.data_dir / "vectors").mkdir(parents=True)
    write_json(home.settings_file, {"log_level": "DEBUG"})
    home.create()
    assert home.purge() == []
    assert not home.data_dir.exists()


def test_link_is_removed_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "large-disk" / "other").touch()
    home = Home(tmp_path / "data")
    home.create()
    (home.data_dir / "vectors").symlink_to(tmp_path / "large-disk")
    assert home.purge() == []
    assert (tmp_path / "large-disk" / "other").exists()


@pytest.mark.parametrize("taken", ["file", "file/below"])
def test_data_directory_that_cannot_be_is_named(tmp_path: Path, taken: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=f"FEDERATION_DATA_DIR: got '{tmp_path / taken}', wants a folder"):
        Home(tmp_path / taken).create()


def test_purge_of_nothing_is_no_error(tmp_path: Path) -> None:
    assert Home(tmp_path / "never").purge() == []


def test_written_secrets_are_readable_by_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets.json"
    write_json(file, {"a": 1})
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_json(file) == {"a": 1}


def test_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(LocalServiceError, match=r"settings\.json is not JSON"):
        read_json(tmp_path / "settings.json")


def test_large_log_is_moved_aside_and_the_writer_goes_on(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    home.create()
    with home.log("part").open("ab") as writer:
        writer.write(b"x" * (11 * 1024 * 1024))
        writer.flush()
        home.rotate("part")
        writer.write(b"next")
    assert home.log("part").read_bytes() == b"next"
    assert home.log("part").with_suffix(".log.1").stat().st_size == 11 * 1024 * 1024
