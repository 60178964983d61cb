"""What does each attack catch, and what does it take?"""
