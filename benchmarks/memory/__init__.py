"""What the stages need in memory, and whether it grows with the number of images."""
