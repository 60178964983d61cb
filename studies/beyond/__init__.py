"""Does the method carry over to a model that is no diffusion?"""
