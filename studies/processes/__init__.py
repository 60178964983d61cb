"""Which timesteps leak, under which process, network and DDIM interval?"""
