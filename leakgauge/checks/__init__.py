"""What could make an audit's figures wrong before any score is looked at.  One file a check; no torch."""
