"""What if the auxiliary images come from another distribution?"""
