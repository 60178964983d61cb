"""Sealed canaries: of several variants of an image one is published, drawn by lot; a model that learnt it shows which.

`variants` makes them, `record` seals and reads back what was drawn, `scores` opens a model and scores all variants,
`coins` is the test: numpy alone, from scores to a p-value and a bound on epsilon.
"""
