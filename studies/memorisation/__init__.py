"""How does leakage grow with epochs and width, and shrink with members?"""
