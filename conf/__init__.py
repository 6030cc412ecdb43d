"""Hydra YAML: the settings that users start from. Imported as `distill.conf`."""
