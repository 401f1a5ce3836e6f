"""Compiled programs are kept for the session: many tests train the same small model."""

import pytest

from qingformer import backend


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    backend.enable_compilation_cache(tmp_path_factory.mktemp("compiled"))
