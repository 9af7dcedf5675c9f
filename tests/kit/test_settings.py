"""Settings: from the environment, then from what `multitude up` wrote down, and secret in whatever they are printed."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.kit.settings import ENV_FILE, Settings, load

URL, KEY = "postgresql://somebody:hidden-password@127.0.0.1/movement", "a-secret-that-is-only-for-tests-0001"


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without settings."""
    for name in ("DATABASE_URL", "PUBLIC_URL", "MULTITUDE_SECRET_KEYS", "MULTITUDE_DIGEST_KEY"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_they_come_from_the_environment(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("DATABASE_URL", URL)
    bare.setenv("MULTITUDE_SECRET_KEYS", KEY)
    bare.setenv("MULTITUDE_QUEUE_LIMIT", "7")
    bare.setenv("MULTITUDE_CORS_ORIGINS", "https://one.example, https://two.example,")
    settings = Settings()
    assert settings.database_url.get_secret_value() == URL
    assert settings.queue_limit == 7
    assert settings.cors_origins == ["https://one.example", "https://two.example"]
    assert settings.key_ring.fingerprint()


def test_without_a_database_there_are_none() -> None:
    with pytest.raises(ValidationError, match="DATABASE_URL"):
        Settings()


def test_no_setting_can_be_read_off_a_log_or_a_traceback(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("DATABASE_URL", URL)
    bare.setenv("MULTITUDE_SECRET_KEYS", KEY)
    bare.setenv("MULTITUDE_DIGEST_KEY", f"{KEY}-digest")
    settings = Settings()
    shown = f"{settings!r} {settings} {settings.model_dump_json()} {settings.key_ring!r}"
    assert "hidden-password" not in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MULTITUDE_QUEUE_LIMIT", "0"),
        ("MULTITUDE_BATCH_LIMIT", "many"),
        ("MULTITUDE_MAX_BODY_BYTES", "1"),
        ("MULTITUDE_LOG_LEVEL", "LOUD"),
        ("MULTITUDE_COMMIT_PATIENCE_SECONDS", "0"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(bare: pytest.MonkeyPatch, name: str, value: str) -> None:
    bare.setenv("DATABASE_URL", URL)
    bare.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("MULTITUDE_").lower()):
        Settings()


def test_no_key_is_an_error_when_one_is_needed(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("DATABASE_URL", URL)
    with pytest.raises(ValueError, match="MULTITUDE_SECRET_KEYS is not set"):
        _ = Settings().key_ring


def test_the_data_folder_says_what_the_environment_does_not(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ENV_FILE).write_text(f"DATABASE_URL={URL}\nMULTITUDE_SECRET_KEYS={KEY}\nUNKNOWN=1\n", encoding="utf-8")
    assert load(tmp_path).database_url.get_secret_value() == URL
    bare.setenv("DATABASE_URL", "postgresql://elsewhere/movement")
    assert load(tmp_path).database_url.get_secret_value() == "postgresql://elsewhere/movement"
    assert load(tmp_path).secret_keys.get_secret_value() == KEY
