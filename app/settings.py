"""All settings of the service, composed from what its rooms and tools declare."""

from pathlib import Path

from app.kit.abuse.settings import AbuseSettings
from app.organizations.settings import OrganizationSettings
from app.partners.settings import PartnerSettings
from app.people.settings import PeopleSettings
from app.signatures.settings import SigningSettings

# Where `multitude up` keeps its database and keys when no other folder is named.
DEFAULT_DATA_DIR = Path(".multitude")
ENV_FILE = "service.env"


class Settings(SigningSettings, PartnerSettings, PeopleSettings, OrganizationSettings, AbuseSettings):
    """What an operator can set, all of it."""


def load(data_dir: Path) -> Settings:
    """Settings from the environment, and what it does not say from the data folder of `multitude up`."""
    return Settings(_env_file=data_dir / ENV_FILE)
