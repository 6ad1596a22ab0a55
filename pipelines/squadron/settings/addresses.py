"""Addresses: what in a URI is a secret, and how a URI is shown without it."""

import re

# A password ends at the last @, and may hold a slash; after a port there is a path.
_USER_INFO = r"://[^/?\#@\s]*:(?!\d*(?:[/?\#\s]|$))[^@\s]*@"
_USER = re.compile(rf"://[^/?\#\s]*@|{_USER_INFO}")
_SECRET = re.compile(
    rf"""{_USER_INFO} | ://[^/?\#@\s]*:[^/?\#@\s]*@
    | [?&;\#] (?:[\w.-]*[-_.])?       # the last word of a parameter's name
        (?:api_?key|key|token|sig|signature|secret|password|sslpassword|passwd|pwd|credential) =""",
    re.VERBOSE | re.IGNORECASE,
)
_QUERY = re.compile(r"(://[^\s?]*)\?\S*")


def bears_secret(address: str) -> bool:
    """Whether an address holds a password, a key or a signature."""
    return _SECRET.search(address) is not None


def without_user(text: str) -> str:
    """A text whose addresses have no user and no password."""
    return _USER.sub("://", text)


def without_secrets(text: str) -> str:
    """A text whose addresses have no user, no password and no query, which may hold a signature."""
    return _QUERY.sub(r"\1", without_user(text))
