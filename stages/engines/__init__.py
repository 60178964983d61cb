"""Where scores are computed: in this process, or on a cluster.  On nodes of one kind, the scores are the same."""
