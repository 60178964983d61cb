"""What others hand over, checked before it is used: splits and files of scores."""
