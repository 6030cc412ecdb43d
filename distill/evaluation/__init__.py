"""Evaluation of a classifier on labelled images.

setup          from the settings to images, model, metrics    score            top-1, top-5, loss over all processes
metrics        calibration, ReaL accuracy, agreement          class_mapping    the model's classes -> the data's
real_labels    ReaL labels by file name                       published_table  parameters and MACs, as published
"""
