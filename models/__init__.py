"""The models, in pure torch. Nothing here knows Ray, datasets or videos."""
