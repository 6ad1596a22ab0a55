"""Store tests: assertions of the contract are explained like those of a test file."""

import pytest

pytest.register_assert_rewrite("tests.stores.contract", "tests.stores.subject")
