"""One file an attack.  A score is a number per image; lower means more member-like, whatever the attack.

Every attack that starts from epsilon(x_0, 0) is handed it as `e0`, so that it is computed once an image.
"""
