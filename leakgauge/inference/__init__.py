"""Votes, calibration, ROC curves and exact intervals.  numpy, scipy and scikit-learn only; no torch."""
