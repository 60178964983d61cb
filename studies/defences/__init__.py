"""What does each defence take from the attacker, and from whoever uses the model?"""
