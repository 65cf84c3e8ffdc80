"""Keyword files: their notation, compiled to one pattern, and the filter of captions that it makes."""
