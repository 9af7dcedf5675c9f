"""Names for what goes over HTTP."""

from typing import Any

Json = dict[str, Any]
Headers = dict[str, str]
