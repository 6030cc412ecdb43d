"""Packing, which runs once: from folders and archives of images to tar shards with a catalog.

pack           the whole, resumable           listing        images of a source, classes in sorted order
archives       tar and zip, read in place     class_lists    the class of each image of a flat archive
hold_out       rows held out for evaluation   recode         smaller, re-encoded, or on a background
shard_writing  one shard, in a worker         unfinished     the record of a packing that has not ended
file_window    a byte range of a file as a file
"""
