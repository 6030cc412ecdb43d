#!/usr/bin/env bash
# The whole way on the embedded data: pack, teacher pass, a look into the store, three students, a table and a plot.
# Sets up .venv first. Everything is made under runs/quickstart (or the folder $1); remove it to begin again.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1
work=${1:-runs/quickstart}
began=$SECONDS

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

# 1. 6,000 + 2,000 small pictures become packed data sets.
if [ ! -f "$work/val/catalog/catalog.json" ]; then
    rm -rf "$work/images" "$work/train" "$work/val"
    say python scripts/demo/fashion_mnist.py unpack "$work/images"
    for split in train val; do
        say python -m distill.pack "$work/images/$split" "$work/$split" --workers 1
    done
fi

# 2. The teacher looks once at 8 views of each training picture; its three most probable classes are kept.
teacher=(teacher=tiny_vit teacher.weights=scripts/demo/teacher.safetensors)
say python -m distill.save_logits data.path="$work/train" "${teacher[@]}" view=fashion \
    store.path="$work/teacher.zarr" store.topk=3 store.epochs=8 batch_size=256

# 3. What is in the store?
say logitstore info "$work/teacher.zarr"
say logitstore show "$work/teacher.zarr" --epoch 0 --row 12
say logitstore check "$work/teacher.zarr"
say python -m distill.verify_logits data.path="$work/train" "${teacher[@]}" store.path="$work/teacher.zarr" \
    check.rows=64

# 4. The same small TinyViT three times, with equal steps: from 600 labels, from 6,000 labels, from no labels at all
#    but the teacher's logits.
student=(data.path="$work/train" data.val_path="$work/val" student=tiny_vit_micro student.image_size=28
    train.steps=744 train.batch_size=64 optim.base_batch=null optim.lr=2e-3 optim.min_lr=1e-5 eval.full=true
    run.save_every=93)
say python -m distill.train_student "${student[@]}" run.dir="$work/labels_600" view=fashion data.rows=600 eval.every=10
say python -m distill.train_student "${student[@]}" run.dir="$work/labels_6000" view=fashion
say python -m distill.train_student "${student[@]}" run.dir="$work/distilled" store.path="$work/teacher.zarr"
say python -m distill.evaluate data.val_path="$work/val" "${teacher[@]}" json="$work/teacher.json"

# 5. What came out.
say python scripts/demo/report.py "$work"
echo "$((SECONDS - began)) seconds after installation"
