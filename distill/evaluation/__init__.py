"""How good a classifier is on labelled images.

setup          from the settings to a network to score          score       top-1, top-5 and loss over all processes
metrics        calibration, ReaL accuracy, agreement            class_mapping  classes of the data against the network's
real_labels    ReaL labels by file name                         published_table  the published models, counted
"""
