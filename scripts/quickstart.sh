#!/usr/bin/env bash
# The whole pipeline on the embedded data: packing, teacher pass, a look into the store, three students, table and plot.
# Sets up .venv first. All files are written to runs/quickstart (or the folder $1); remove it to start again.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1
work=${1:-runs/quickstart}
began=$SECONDS

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

# 1. Pack 6,000 training and 2,000 validation images.
if [ ! -f "$work/val/catalog/catalog.json" ]; then
    rm -rf "$work/images" "$work/train" "$work/val"
    say python scripts/demo/fashion_mnist.py unpack "$work/images"
    for split in train val; do
        say python -m distill.pack "$work/images/$split" "$work/$split" --workers 1
    done
fi

# 2. Teacher pass: one teacher forward over 8 augmented views of each training image; the top 3 classes are stored.
teacher=(teacher=tiny_vit teacher.weights=scripts/demo/teacher.safetensors)
say python -m distill.save_logits data.path="$work/train" "${teacher[@]}" view=fashion \
    store.path="$work/teacher.zarr" store.topk=3 store.epochs=8 batch_size=256

# 3. What is in the store?
say logitstore info "$work/teacher.zarr"
say logitstore show "$work/teacher.zarr" --epoch 0 --row 12
say logitstore check "$work/teacher.zarr"
say python -m distill.verify_logits data.path="$work/train" "${teacher[@]}" store.path="$work/teacher.zarr" \
    check.rows=64

# 4. Student passes: the same small TinyViT, with equal steps, on 600 labels, on 6,000 labels, and on the stored logits
#    of the 6,000 images without their labels.
student=(data.path="$work/train" data.val_path="$work/val" student=tiny_vit_micro student.image_size=28
    train.steps=744 train.batch_size=64 optim.base_batch=null optim.lr=2e-3 optim.min_lr=1e-5 eval.full=true
    run.save_every=93)
say python -m distill.train_student "${student[@]}" run.dir="$work/labels_600" view=fashion data.rows=600 eval.every=10
say python -m distill.train_student "${student[@]}" run.dir="$work/labels_6000" view=fashion
say python -m distill.train_student "${student[@]}" run.dir="$work/distilled" store.path="$work/teacher.zarr"
say python -m distill.evaluate data.val_path="$work/val" "${teacher[@]}" json="$work/teacher.json"

# 5. Results.
say python scripts/demo/report.py "$work"
echo "$((SECONDS - began)) seconds after installation"
