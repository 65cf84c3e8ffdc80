"""The vocoder, HiFi-GAN, turns log-mel spectrograms into waveforms; its discriminators train it."""
