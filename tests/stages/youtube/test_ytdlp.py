"""yt-dlp as a library: its extractors get our settings and then the user's."""

import requests

from autorecap.stages.youtube.budget import Egress, LocalBudget
from autorecap.stages.youtube.config import YoutubeConfig
from autorecap.stages.youtube.session import Turns
from autorecap.stages.youtube.ytdlp import YtDlp


def test_extractor_args_are_yt_dlps_own_and_come_on_top_of_ours():
    config = YoutubeConfig(
        extractor_args=(
            "youtube:po_token=android_vr.gvs+ABC;formats=missing_pot",
            "youtubepot-x:base_url=http://127.0.0.1:4416",
        )
    )
    turns = Turns(Egress(name="direct"), LocalBudget(config.budget, ["direct"]), config)
    args = YtDlp(config, turns, requests.Session())._extractor_args()
    assert args["youtube"]["po_token"] == ["android_vr.gvs+ABC"] and args["youtube"]["player_client"] == ["android_vr"]
    assert args["youtubepot-x"] == {"base_url": ["http://127.0.0.1:4416"]}
