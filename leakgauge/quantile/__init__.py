"""Learners of the conditional distribution of a non-member's log score given its image, and bags of them.

Tang et al., arXiv 2312.05140: each image gets its own threshold; a bag of weak attackers votes.  Knows images and
scores; knows no diffusion.
"""
