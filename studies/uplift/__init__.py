"""What do thresholds for each image add?"""
