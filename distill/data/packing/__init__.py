"""Packing: what runs once, from folders and archives of images to tar shards with a catalog.

pack           the whole of it, resumable     listing        images of a folder, classes in sorted order
archives       tar and zip, read in place     class_lists    which class an image of a flat archive has
hold_out       the images kept for evaluation recode         smaller, re-encoded, on a background
shard_writing  one shard, in a worker         file_window    a part of a file as a file of its own
"""
