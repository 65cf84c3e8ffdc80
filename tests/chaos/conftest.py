"""The same cluster and corpus as the integration tests."""

from tests.integration.conftest import build, corpus, ray_address, start_build

__all__ = ["build", "corpus", "ray_address", "start_build"]
