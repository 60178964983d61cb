"""Figures, one study a file.  Knows tables, no images and no models."""
