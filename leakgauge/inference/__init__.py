"""Votes, calibration, ROC curves and exact intervals.  No torch."""
