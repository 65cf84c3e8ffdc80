"""The models, in pure torch: AutoCap, CLAP, GenAu. Nothing here knows Ray, datasets or videos."""
