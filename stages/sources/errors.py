"""What every source raises."""


class SourceError(Exception):
    """The source cannot be read. The message names it and says what to do."""
