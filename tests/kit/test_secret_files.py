"""Every secret can be named as a file: one kind, whichever setting it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.kit.secret_files import SUFFIX, SecretFileError, secret_settings
from app.serving.server import export_settings
from app.settings import ENV_FILE, Settings, load
from tests.support.services import command

URL = "postgresql://somebody:hidden-password@127.0.0.1/movement"
KEY = "wNqT4yq0yO3nF1bGm8cZ2vK7xU5hR9sE"
# A value that each secret setting takes; a new one has to be added here.
VALUES = {
    "DATABASE_URL": URL,
    "MULTITUDE_SECRET_KEYS": KEY,
    "MULTITUDE_DIGEST_KEY": KEY[::-1],
    "MULTITUDE_TOKEN_KEYS": f"{KEY}1,{KEY}2",
    "MULTITUDE_DIGEST_WRAPPING_KEYS": f"{KEY}3",
    "SMTP_URL": "smtps://user:hidden-password@mail.example.org",
    "RATE_LIMIT_URL": "valkeys://:hidden-password@valkey.example.org",
}
SECRETS = dict(secret_settings(Settings))
every_secret = pytest.mark.parametrize(("field", "name"), SECRETS.items(), ids=SECRETS.values())


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with nothing but a database."""
    for name in SECRETS.values():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}{SUFFIX}", raising=False)
    monkeypatch.setenv("DATABASE_URL", URL)
    return monkeypatch


def _file(folder: Path, content: str, mode: int = 0o600) -> Path:
    file = folder / "secret"
    file.write_text(content, encoding="utf-8")
    file.chmod(mode)
    return file


def _name_file(bare: pytest.MonkeyPatch, name: str, file: Path) -> None:
    bare.delenv(name, raising=False)
    bare.setenv(f"{name}{SUFFIX}", str(file))


def test_the_walk_knows_every_secret() -> None:
    assert set(SECRETS.values()) == set(VALUES)
    typed = {field for field, info in Settings.model_fields.items() if "SecretStr" in str(info.annotation)}
    assert set(SECRETS) == typed


@every_secret
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_the_file_that_is_named(
    bare: pytest.MonkeyPatch, tmp_path: Path, field: str, name: str, end: str
) -> None:
    _name_file(bare, name, _file(tmp_path, VALUES[name] + end))
    found = getattr(Settings(), field)
    assert isinstance(found, SecretStr)
    assert found.get_secret_value() == VALUES[name]


@every_secret
def test_both_at_once_are_refused(bare: pytest.MonkeyPatch, tmp_path: Path, field: str, name: str) -> None:
    _name_file(bare, name, _file(tmp_path, VALUES[name]))
    bare.setenv(name, VALUES[name])
    with pytest.raises(SecretFileError, match=f"^Both {name} and {name}{SUFFIX} are set") as refused:
        Settings()
    assert VALUES[name] not in str(refused.value)


@every_secret
def test_a_file_that_says_nothing_is_told_by_the_settings_name(
    bare: pytest.MonkeyPatch, tmp_path: Path, field: str, name: str
) -> None:
    _name_file(bare, name, tmp_path / "absent")
    with pytest.raises(SecretFileError, match=f"^{name}{SUFFIX}: the file it names cannot be read"):
        Settings()
    for content, said in [("", "empty"), ("\n", "empty"), ("x" * 70_000, "too large")]:
        _name_file(bare, name, _file(tmp_path, content))
        with pytest.raises(SecretFileError, match=f"^{name}{SUFFIX}: the file it names is {said}"):
            Settings()
    (tmp_path / "secret").write_bytes(b"\xff" * 40)
    with pytest.raises(SecretFileError, match="is no text"):
        Settings()


@every_secret
def test_a_file_that_everybody_reads_is_warned_of(
    bare: pytest.MonkeyPatch, tmp_path: Path, field: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _name_file(bare, name, _file(tmp_path, VALUES[name], 0o640))
    Settings()
    assert "every user" not in "".join(capfd.readouterr())
    _name_file(bare, name, _file(tmp_path, VALUES[name], 0o644))
    Settings()
    told = "".join(capfd.readouterr())
    assert "every user" in told
    assert f"{name}{SUFFIX}" in told
    assert VALUES[name] not in told


def test_the_environment_goes_before_the_data_folder_however_each_says_it(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ENV_FILE).write_text(
        f"MULTITUDE_SECRET_KEYS={KEY}4\nSMTP_URL_FILE={_file(tmp_path, VALUES['SMTP_URL'])}\n"
    )
    assert load(tmp_path).secret_keys.get_secret_value() == f"{KEY}4"
    assert load(tmp_path).smtp_url == SecretStr(VALUES["SMTP_URL"])
    bare.setenv("SMTP_URL", "smtp://elsewhere.example.org")
    assert load(tmp_path).smtp_url == SecretStr("smtp://elsewhere.example.org")
    own = tmp_path / "own"
    own.write_text(f"{KEY}5")
    own.chmod(0o600)
    bare.setenv("MULTITUDE_SECRET_KEYS_FILE", str(own))
    assert load(tmp_path).secret_keys.get_secret_value() == f"{KEY}5"


def test_processes_that_are_started_read_the_file_themselves(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _name_file(bare, "MULTITUDE_SECRET_KEYS", _file(tmp_path, KEY))
    before = dict(os.environ)
    try:
        export_settings(Settings())
        assert "MULTITUDE_SECRET_KEYS" not in os.environ
        assert Settings().secret_keys.get_secret_value() == KEY
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.process
def test_a_warning_is_no_part_of_what_a_command_answers(tmp_path: Path) -> None:
    open_file = _file(tmp_path, "postgresql://nobody@127.0.0.1:1/nothing", 0o644)
    told = command("keys", "create", "--organization", "movement", "--role", "owner", DATABASE_URL_FILE=str(open_file))
    assert (told.returncode, told.stdout) == (1, "")
    assert "a secret's file can be read by every user" in told.stderr
    assert "DATABASE_URL_FILE" in told.stderr
    assert "The database cannot be reached" in told.stderr


@pytest.mark.process
def test_a_command_tells_it_in_a_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "DATABASE_URL": URL, "MULTITUDE_SECRET_KEYS_FILE": str(tmp_path / "absent")}
    told = subprocess.run(
        [sys.executable, "-m", "app.cli", "doctor", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stdout) == (1, "")
    assert "MULTITUDE_SECRET_KEYS_FILE: the file it names cannot be read" in " ".join(told.stderr.split())
    assert "Traceback" not in told.stderr
    assert json.dumps(VALUES["DATABASE_URL"]) not in told.stderr
