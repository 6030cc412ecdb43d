"""TinyViT (Wu et al., ECCV 2022): dimensions, network, and what makes it fast on this machine."""
