"""Settings: from the environment, then from what `multitude up` wrote down, and secret in whatever they are printed."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from app.kit.crypto.sealing import KeyRing
from app.kit.problems import OperatorError
from app.kit.text.urls import url_of
from app.settings import ENV_FILE, Settings, load
from app.up import prepare_folder, with_defaults

URL, KEY = "postgresql://somebody:hidden-password@127.0.0.1/movement", "a-secret-that-is-only-for-tests-0001"
# What the version before wrapping, token keys and the check of strength made of that key.
DIGEST_BEFORE, FINGERPRINT_BEFORE = "c22d4ba259203485f7f6e9630ccdb920", "2c92729c294f509228b069f2e4dd2813"


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
        ("MULTITUDE_SIGN_INS_PER_HOUR", "0"),
        ("MULTITUDE_ADDRESS_LIMIT", "0"),
        ("MULTITUDE_ADDRESS_MAILS", "none"),
        ("MULTITUDE_PETITION_LINK", "https://movement.example/{token}"),
        ("MULTITUDE_PETITION_LINK", "/petitions/{petition}"),
        ("MULTITUDE_CONFIRM_LINK", "https://movement.example/{petition}"),
        ("MULTITUDE_SIGN_IN_LINK", "javascript:{token}"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(bare: pytest.MonkeyPatch, name: str, value: str) -> None:
    bare.setenv("DATABASE_URL", URL)
    bare.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("MULTITUDE_").lower()):
        Settings()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "movement.example",
        "//movement.example",
        "ftp://movement.example",
        "https://",
        "https:///path",
        "https://:443",
        "https://movement.example?page=1",
        "https://movement.example/#top",
        "https://hidden-password@movement.example",
        "https://somebody:hidden-password@movement.example",
        "https://bücher.example",
        "https://movement.example/ü",
        "https://movement.example:0",
        "https://movement.example:65536",
        "https://movement.example:",
        "https://movement.example:http",
        "https://movement.example/a b",
        "https://movement.example/{token}",
        "https://movement.example\\@other.example",
        " https://movement.example",
        "https://movement.example\n",
        "https://movement\t.example",
        "http://[::1",
        "http://::1",
        "http://[:::]",
        "http://[127.0.0.1]",
    ],
)
def test_a_public_address_no_link_can_begin_with_is_refused(bare: pytest.MonkeyPatch, url: str) -> None:
    bare.setenv("DATABASE_URL", URL)
    bare.setenv("PUBLIC_URL", url)
    with pytest.raises(ValidationError, match="PUBLIC_URL") as refused:
        Settings()
    assert "hidden-password" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "kept", "local"),
    [
        ("https://movement.example", "https://movement.example", False),
        ("https://movement.example/", "https://movement.example", False),
        ("HTTPS://Movement.Example:8443/Api//", "https://movement.example:8443/Api", False),
        ("https://xn--bcher-kva.example/a/b~c", "https://xn--bcher-kva.example/a/b~c", False),
        ("http://web_1:80", "http://web_1:80", False),
        ("http://192.0.2.7", "http://192.0.2.7", False),
        ("http://0.0.0.0:8000", "http://0.0.0.0:8000", False),
        ("http://[2001:DB8::1]:8000/", "http://[2001:db8::1]:8000", False),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("http://LocalHost/", "http://localhost", True),
        ("http://[::1]", "http://[::1]", True),
        ("https://localhost.movement.example", "https://localhost.movement.example", False),
    ],
)
def test_links_begin_with_the_public_address(bare: pytest.MonkeyPatch, url: str, kept: str, *, local: bool) -> None:
    bare.setenv("DATABASE_URL", URL)
    bare.setenv("PUBLIC_URL", url)
    settings = Settings()
    assert settings.public_url == kept
    assert settings.link("sign_in", "t") == f"{kept}/sign-in?token=t"
    assert settings.is_local is local


def test_the_front_ends_page_of_a_petition_has_a_place_for_its_name(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("DATABASE_URL", URL)
    bare.setenv("MULTITUDE_PETITION_LINK", "https://movement.example/p/{petition}")
    assert Settings().petition_link == "https://movement.example/p/{petition}"
    bare.setenv("MULTITUDE_PETITION_LINK", "")
    assert Settings().petition_link == ""


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("2001:db8::1", "http://[2001:db8::1]:80"),
        ("movement.example", "http://movement.example:80"),
    ],
)
def test_up_says_an_address_that_can_be_opened(bare: pytest.MonkeyPatch, tmp_path: Path, host: str, url: str) -> None:
    bare.setenv("DATABASE_URL", URL)
    assert url_of(host, 80) == url
    settings = with_defaults(Settings(), tmp_path, url)
    assert settings.as_environment()["PUBLIC_URL"] == settings.public_url == url


def test_only_up_lets_webhooks_go_to_this_machine(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("DATABASE_URL", URL)
    url = url_of("127.0.0.1", 80)
    assert not Settings().may_call_loopback
    settings = with_defaults(Settings(), tmp_path, url)
    assert settings.may_call_loopback
    for name, value in settings.as_environment().items():
        bare.setenv(name, value)
    assert Settings().may_call_loopback
    bare.setenv("PUBLIC_URL", "https://movement.example")
    assert not Settings().may_call_loopback
    assert not with_defaults(Settings(), tmp_path, url).may_call_loopback
    bare.setenv("PUBLIC_URL", url)
    bare.setenv("MULTITUDE_WEBHOOK_LOOPBACK", "false")
    assert not with_defaults(Settings(), tmp_path, url).may_call_loopback


def test_up_wants_to_be_told_what_it_cannot_make_a_link_of(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("DATABASE_URL", URL)
    url = url_of("fe80::1%eth0", 80)
    with pytest.raises(OperatorError, match="PUBLIC_URL"):
        with_defaults(Settings(), tmp_path, url)
    bare.setenv("PUBLIC_URL", "https://movement.example/")
    assert with_defaults(Settings(), tmp_path, url).public_url == "https://movement.example"


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


def test_a_copy_with_other_keys_has_another_ring() -> None:
    first = Settings.model_validate({"database_url": URL, "secret_keys": KEY})
    assert first.key_ring is first.key_ring
    other = first.model_copy(update={"secret_keys": SecretStr(f"another-{KEY}")})
    assert other.key_ring.current_id != first.key_ring.current_id


def test_the_first_start_makes_a_key_of_its_own_for_each_purpose_and_no_later_one_does(
    bare: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepare_folder(tmp_path)
    written = (tmp_path / ENV_FILE).read_text(encoding="utf-8")
    made = dict(line.split("=", 1) for line in written.splitlines())
    names = ("MULTITUDE_SECRET_KEYS", "MULTITUDE_DIGEST_KEY", "MULTITUDE_TOKEN_KEYS")
    assert set(made) == set(names)
    assert len(set(made.values())) == 3
    assert KeyRing.parse(*(made[name] for name in names)).fingerprint()
    prepare_folder(tmp_path)
    assert (tmp_path / ENV_FILE).read_text(encoding="utf-8") == written


def test_a_folder_from_before_is_left_as_it_is_and_digests_as_it_did(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ENV_FILE).write_text(f"DATABASE_URL={URL}\nMULTITUDE_SECRET_KEYS={KEY}\n", encoding="utf-8")
    prepare_folder(tmp_path)
    ring = load(tmp_path).key_ring
    # As the version before this one made it.
    assert ring.digest("amina@example.org").hex() == DIGEST_BEFORE
    assert ring.fingerprint() == FINGERPRINT_BEFORE


def test_keys_that_are_given_as_files_are_not_made(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("MULTITUDE_SECRET_KEYS_FILE", str(tmp_path / "keys"))
    prepare_folder(tmp_path)
    assert not (tmp_path / ENV_FILE).exists()
