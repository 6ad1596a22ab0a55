"""Access: the key and the address of a service, neither of which may show the other."""

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from squadron.errors import SettingsError
from squadron.settings.credentials import Credential


def api_key(credential: Credential) -> str | None:
    """The key in the environment; None if there is none. Raises SettingsError when it cannot be one."""
    key = os.environ.get(credential.variable, "").strip()
    if not all("!" <= character <= "~" for character in key):
        raise SettingsError(
            f"{credential.variable} holds white space, or characters that no key has: correct it, or the Airflow "
            f"connection {credential.connection!r}"
        )
    return key or None


def missing_key(service: str, credential: Credential) -> SettingsError:
    """What to say when there is no key."""
    return SettingsError(
        f"{service} wants a key and {credential.variable} is not set: set it, or in Airflow the password of the "
        f"connection {credential.connection!r}"
    )


def addresses(service: str, base_url: str, fallback_base_urls: Sequence[str]) -> list[tuple[str, str]]:
    """The addresses of a service, in order of preference, each with the host to call it by. Raises as `host_of`."""
    return [
        (base_url, host_of(base_url, f"embedding.{service}.base_url")),
        *((url, host_of(url, f"embedding.{service}.fallback_base_urls")) for url in fallback_base_urls),
    ]


def host_of(url: str, setting: str) -> str:
    """Host and port of an address, to call it by. Raises SettingsError when it is none, or holds a secret."""
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise SettingsError(f"{setting} holds a user name or a password, and settings are shown: leave them out")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{setting} is {url!r}: wanted an address such as https://{parts.path or 'host'}")
    return parts.netloc
