"""What every program runs in: processes and devices, graceful stopping, progress, trackers, measurements.

processes     accelerate's processes, set up the same for all programs     model_input  uint8 images -> logits
stopping      signals and time limits end a pass gracefully                progress     a bar, or lines in a log file
measure       throughput, remaining time and memory                        trackers     accelerate's, checked beforehand
allocator     lets a CPU process keep its freed memory
"""
