"""Secrets in addresses are found, and not shown."""

import pytest

from squadron.settings.addresses import bears_secret, without_secrets, without_user


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@host/db",
        "postgresql://me:se/cret@host/db",
        "postgresql://me:s@cret@host/db",
        "postgresql://me:1234@host/db",
        "https://host/file?X-Amz-Signature=0a1b",
        "postgresql://host/db?sslpassword=x",
        "https://host/a?page=1&api_key=x",
        "https://host/a#token=x",
    ],
)
def test_a_secret_is_found(address: str) -> None:
    assert bears_secret(address)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me@host:5432/db",
        "http://host:8080/mail/me@example.org",
        "s3://bucket/part-?.parquet",
        "data/a.csv",
    ],
)
def test_an_address_without_a_secret_is_taken(address: str) -> None:
    assert not bears_secret(address)


@pytest.mark.parametrize("password", ["secret", "se/cret", "s@cret", "1234", "se?cret"])
def test_neither_user_nor_password_is_shown(password: str) -> None:
    assert (
        without_user(f"cannot open postgresql://me:{password}@host:5432/db") == "cannot open postgresql://host:5432/db"
    )


def test_the_query_of_an_address_is_not_shown_and_the_words_around_it_are() -> None:
    text = "https://me:x@host:8080/a.csv?sig=0a1b cannot be read, http://other/b@c neither"

    assert without_secrets(text) == "https://host:8080/a.csv cannot be read, http://other/b@c neither"
