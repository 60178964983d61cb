"""`python -m leakgauge` is the command `leakgauge`."""

from leakgauge.commands import main

main()
