"""TinyViT (Wu et al., ECCV 2022): its dimensions, the network, and the parts that make it fast."""
