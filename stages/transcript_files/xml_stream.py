"""XML read element by element and without a tree: a hostile file costs no more memory than its text."""

from typing import Protocol
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from autorecap.stages.transcript_files.transcript import TranscriptError

MAX_DEPTH = 64  # transcripts nest about six deep


class Handler(Protocol):
    """Receives every element, in order, with names and attributes without their namespaces."""

    def start(self, name: str, attributes: dict[str, str]) -> None: ...
    def data(self, text: str) -> None: ...
    def end(self, name: str) -> None: ...


class _Target:
    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.depth = 0
        self.data = handler.data

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TranscriptError(f"XML nested deeper than {MAX_DEPTH} elements, expected a transcript")
        if "}" in tag or any("}" in key for key in attributes):
            tag, attributes = _local(tag), {_local(key): value for key, value in attributes.items()}
        self.handler.start(tag, attributes)

    def end(self, tag: str) -> None:
        self.depth -= 1
        self.handler.end(_local(tag) if "}" in tag else tag)

    def close(self) -> None:
        pass


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def read_xml(text: str, handler: Handler) -> None:
    """Feed the whole document to `handler`. Raises TranscriptError where it is not well-formed XML, or is a bomb."""
    parser = XMLParser(target=_Target(handler))
    try:
        parser.feed(text)
        parser.close()
    except ParseError as error:
        raise TranscriptError(f"not well-formed XML ({error}): cut off, or no transcript") from None
    except DefusedXmlException as error:
        raise TranscriptError(f"XML with entity definitions, which no transcript needs ({error})"[:200]) from None
    except (ValueError, LookupError) as error:
        if isinstance(error, TranscriptError):
            raise
        raise TranscriptError(f"not readable as XML ({error})"[:200]) from None
