"""For inference: BatchNorm folded into convolutions, and ONNX files."""
