"""What could make an audit's figures wrong, whatever the trained target says.  A kind of check a file, all of them in
`roles.py`, their levels in `plan.py`; no torch."""
