"""How large should an attacker be?"""
