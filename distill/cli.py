"""The command `distill`: every program as a sub-command, `distill train-student` for `python -m distill.train_student`.

A program is imported when it is called, so the list and usage errors need no torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys

PROGRAMS = {
    "pack": "images in folders or archives -> tar shards with a catalog",
    "save-logits": "teacher pass: views -> top-k logits and seeds in a store",
    "verify-logits": "do the store's views replay here, and does the teacher still say the same?",
    "train-student": "student pass: replays the views, trains on the store's logits, or on labels",
    "evaluate": "top-1, top-5, calibration, ReaL, agreement",
    "export": "ONNX, timm's layout or safetensors, with a model card",
    "transfer": "what features are worth on other data: k-NN, linear probe, few-shot, fine-tuning",
    "contract": "searches a smaller student under hard limits",
    "gallery": "a store as one HTML page",
}

_USAGE = """\
usage: distill PROGRAM [ARGUMENTS]      (the same as python -m distill.PROGRAM)
       distill PROGRAM --help
       distill --version

Example: distill pack imagenet/train packed/train

programs:
"""


def main(arguments: list[str] | None = None) -> None:
    """Runs one program. Exit codes are the program's; 2 for no program of that name."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("--help", "-h"):
        print(_USAGE + "\n".join(f"  {program:<14} {about}" for program, about in PROGRAMS.items()))
    elif name == "--version":
        print(f"distill {importlib.metadata.version('distill')}")
    elif name.replace("_", "-") not in PROGRAMS:
        print(f"error: there is no program {name!r}: distill --help lists them", file=sys.stderr)
        sys.exit(2)
    else:
        _run(name.replace("-", "_"), rest)


def _run(module_name: str, arguments: list[str]) -> None:
    module = importlib.import_module(f"distill.{module_name}")
    if module_name == "pack":
        module.main(arguments, prog_name="distill pack")
    else:
        importlib.import_module("distill.config.command").run_program(module.PROGRAM, arguments)


if __name__ == "__main__":
    main()
