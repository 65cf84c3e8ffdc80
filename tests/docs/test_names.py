"""Files and folders that the pages name are there."""

import re

import pytest

from tests.support.hostile import NAMES
from tests.support.markdown import PAGES
from tests.support.places import PROJECT

IN_CODE = re.compile(rf"`((?:{'|'.join([*NAMES, 'benchmarks', 'configs', 'docs'])})/[\w./-]*)`")
EXAMPLES = {"configs/mine.yaml"}  # the reader's own


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_file_that_is_not_there(page):
    named = set(IN_CODE.findall(page.read_text(encoding="utf-8"))) - EXAMPLES
    assert not [name for name in sorted(named) if not (PROJECT / name).exists()]


def test_the_pages_name_files():
    assert sum(len(IN_CODE.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 20
