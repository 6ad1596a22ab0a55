"""Embedding tests: assertions of the contracts are explained like those of a test file."""

import pytest

pytest.register_assert_rewrite("tests.embeddings.contract", "tests.embeddings.remote_contract")
