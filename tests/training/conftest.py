"""The same small model is compiled again and again; a compilation cache for the session saves most of the time."""

import pytest

from qingformer import backend


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    if backend.name() != "jax":
        yield
        return
    import jax

    backend.enable_compilation_cache(tmp_path_factory.mktemp("xla"))
    yield
    jax.config.update("jax_compilation_cache_dir", None)
