"""YouTube: fetches transcripts, and the audio of the clips."""
