"""TinyViT, teachers and their weights."""
