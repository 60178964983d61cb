"""Where scores are computed: in this process, or on a cluster.  The scores are the same."""
