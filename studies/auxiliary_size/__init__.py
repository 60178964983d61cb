"""How many auxiliary images does an attack need?"""
