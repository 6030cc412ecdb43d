"""Hydra YAML: the default settings of every program, and the choices of its groups. Imported as `distill.conf`."""
