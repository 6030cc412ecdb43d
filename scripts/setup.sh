#!/usr/bin/env bash
# Makes .venv with the project and everything its tests and demonstrations need; does nothing when that is done.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
stamp=.venv/installed
if [ ! -f "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
    # torch and torchvision must fit each other; where the index offers this pair, take it, else what pip resolves.
    .venv/bin/python -c 'import torch, torchvision' 2>/dev/null ||
        .venv/bin/pip install --quiet 'torch==2.14.1' 'torchvision==0.29.1' ||
        .venv/bin/pip install --quiet torch torchvision
    .venv/bin/pip install --quiet --editable '.[dev,demo]'
    touch "$stamp"
fi
