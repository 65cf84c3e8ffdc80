"""The vocoder, HiFi-GAN, which turns log-mel spectrograms into waveforms, and the discriminators that train it."""
