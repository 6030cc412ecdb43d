"""Taking a trained network elsewhere: what is exported (`source`), and the model card beside it (`model_card`)."""
