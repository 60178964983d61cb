"""Attacks that cost more than a score: gradients and shadow models, a network taught by labelled images."""
