#!/usr/bin/env bash
# Makes .venv with the project and all that its tests and demonstrations need; does nothing if that is done.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
stamp=.venv/installed
if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    # torch and torchvision must match: this pair if the index has it, else what pip resolves.
    .venv/bin/python -c 'import torch, torchvision' 2>/dev/null ||
        .venv/bin/pip install --quiet 'torch==2.14.1' 'torchvision==0.29.1' ||
        .venv/bin/pip install --quiet torch torchvision
    .venv/bin/pip install --quiet --editable '.[dev,demo]'
    touch "$stamp"
fi
