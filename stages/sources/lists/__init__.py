"""Lists of online videos, as their authors publish them and as people damage them. See docs/lists.md."""

from autorecap.stages.sources.lists.formats import FORMATS
from autorecap.stages.sources.lists.json_rows import freesound_ids
from autorecap.stages.sources.lists.mentions import Damaged, Mentions, Thresholds
from autorecap.stages.sources.lists.read import VideoList, open_list

__all__ = ["FORMATS", "Damaged", "Mentions", "Thresholds", "VideoList", "freesound_ids", "open_list"]
