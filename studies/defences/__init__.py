"""What does each defence take from the attacker, and from the users of the model?"""
