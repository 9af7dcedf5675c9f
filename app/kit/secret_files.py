"""Secrets from files: what `NAME` may hold in clear, `NAME_FILE` may name a file for (Docker, Kubernetes, systemd).

It holds for every setting whose type is a `SecretStr`. A file's content is the value, without the line's end. Both
names at once are refused: nobody should have to know which of two secrets is in use.
"""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from app.kit.logs import log
from app.kit.problems import OperatorError

SUFFIX = "_FILE"
_LARGEST = 64 * 1024


class SecretFileError(OperatorError):
    """A secret cannot be had from the file that a setting names."""


def secret_settings(settings: type[BaseSettings]) -> Iterator[tuple[str, str]]:
    """Every setting that is a secret: the field's name, and the name of its environment variable."""
    for field, info in settings.model_fields.items():
        if _is_secret(info.annotation):
            yield field, variable_of(settings, field, info)


def variable_of(settings: type[BaseSettings], field: str, info: FieldInfo) -> str:
    """The environment variable of a setting."""
    return str(info.validation_alias or f"{settings.model_config.get('env_prefix', '')}{field.upper()}")


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


class SecretFiles(PydanticBaseSettingsSource):
    """The secrets that are named as files in the environment, or in an environment file, whichever `beside` reads."""

    def __init__(self, settings: type[BaseSettings], beside: EnvSettingsSource) -> None:
        super().__init__(settings)
        self._given: Mapping[str, str | None] = {name.lower(): value for name, value in beside.env_vars.items()}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The secret of one field, if a file is named for it."""
        name = variable_of(self.settings_cls, field_name, field)
        path = self._given.get(f"{name}{SUFFIX}".lower())
        if not path or not _is_secret(field.annotation):
            return None, field_name, False
        if self._given.get(name.lower()):
            raise SecretFileError(f"Both {name} and {name}{SUFFIX} are set: leave one of them.")
        return _read(name, Path(path)), field_name, False

    def __call__(self) -> dict[str, Any]:
        """All secrets that are in files, by field; SecretFileError."""
        found = {
            str(info.validation_alias or field): self.get_field_value(info, field)[0]
            for field, info in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


def _read(name: str, path: Path) -> str:
    variable = f"{name}{SUFFIX}"
    try:
        with path.open("rb") as file:
            is_open = stat.S_IMODE(path.stat().st_mode) & stat.S_IRWXO
            text = file.read(_LARGEST + 1)
        value = text.decode().rstrip("\r\n")
    except OSError as error:
        raise SecretFileError(f"{variable}: the file it names cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise SecretFileError(f"{variable}: the file it names is no text.") from None
    if not value or len(text) > _LARGEST:
        raise SecretFileError(f"{variable}: the file it names is {'too large' if value else 'empty'}.")
    if is_open:
        log.warning("a secret's file can be read by every user: take that right away", setting=variable)
    return value
