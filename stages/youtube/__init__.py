"""What is fetched from YouTube: transcripts, and the audio of the clips."""
