"""Auxiliary images that come from elsewhere, and how much so."""
