"""leakgauge."""
