"""Who leaks?"""
