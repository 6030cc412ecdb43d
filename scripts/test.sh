#!/usr/bin/env bash
# Sets up .venv and runs every check: formatting, lint, types, tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1
ruff format --check .
ruff check .
mypy
python -m pytest -rs --durations=15 "$@"
