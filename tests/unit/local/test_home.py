"""The data directory: what is ours goes, what is not stays; secrets are closed to others."""

from pathlib import Path

import pytest

from federation.errors import LocalServiceError
from federation.local.home import Home, read_json, write_json


def test_directory_that_we_made_is_removed_whole(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    home.create()
    (home.data_dir / "anything").write_text("x")
    assert home.purge() == []
    assert not home.data_dir.exists()


def test_file_of_others_in_a_directory_of_theirs_stays(tmp_path: Path) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    home = Home(tmp_path)
    home.create()
    write_json(home.settings_file, {})
    assert home.purge() == [tmp_path / "diary.txt"]


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
