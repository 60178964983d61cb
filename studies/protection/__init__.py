"""What a defence promises, and what it costs.  Knows no attack."""
