"""Errors of sources."""

from autorecap.base.errors import ForeseenError


class SourceError(ForeseenError):
    """A source cannot be read. The message names it and says what to do."""
