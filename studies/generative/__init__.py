"""Generative models that are no diffusion."""
