"""Noise processes, denoisers and their training.  Knows torch and diffusers; knows no attack."""
