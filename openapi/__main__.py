"""Writes `openapi/openapi.json` from the code: `make openapi`."""

from pathlib import Path

from app.kit.web.openapi import as_text
from app.main import create_api
from app.settings import Settings

if __name__ == "__main__":
    settings = Settings.model_validate({"database_url": "postgresql://unused", "secret_keys": "-" * 32})
    (Path(__file__).parent / "openapi.json").write_text(as_text(create_api(settings)), encoding="utf-8")
