"""What every program runs in: accelerate's processes, stopping in good order, progress, trackers, measuring.

processes     accelerate, with what every program here wants of it     model_input  uint8 images -> normalised -> logits
stopping      signals and time limits that end a run in good order     progress     bars, or lines where no terminal is
measure       speed, time left and memory                              trackers     accelerate's, checked before a run
allocator     keeps the C library from giving freed memory back
"""
