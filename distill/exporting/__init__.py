"""Export of a trained network: the network and its history (`source`), and the model card (`model_card`)."""
