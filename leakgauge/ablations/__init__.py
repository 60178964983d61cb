"""The paper's experiments (Tang et al., arXiv 2312.05140) and two more: what an attack gains from each of its parts.

One experiment a file.  Each fits bags on auxiliary images as `fit` does, and measures them as `evaluate` does.
"""
