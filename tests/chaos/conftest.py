"""The same cluster and corpus as the integration tests."""

from tests.integration.conftest import build, corpus, hostile, ray_address, start_build

__all__ = ["build", "corpus", "hostile", "ray_address", "start_build"]
