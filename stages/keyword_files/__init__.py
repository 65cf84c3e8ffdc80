"""Keyword files: their notation as one pattern, and the filter of captions that it makes."""
