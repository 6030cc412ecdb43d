#!/usr/bin/env bash
# Trains teacher.safetensors, the quick start's teacher: a small TinyViT, on the labels of the full Fashion-MNIST
# training set. Needs Debian's package dataset-fashion-mnist (or the idx files in the folder $1) and,
# on 2 cores, about half an hour.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1
source=${1:-/usr/share/datasets/fashion-mnist}
work=${WORK:-runs/demo_teacher}
[ -d "$work/images" ] || python scripts/demo/fashion_mnist.py unpack "$work/images" --source "$source"
for split in train val; do
    [ -f "$work/$split/catalog/catalog.json" ] || python -m distill.pack "$work/images/$split" "$work/$split"
done
python -m distill.train_student data.path="$work/train" data.val_path="$work/val" run.dir="$work/run" \
    student=tiny_vit_demo_teacher student.drop_path=0.05 view=fashion eval.full=true \
    train.epochs=10 train.batch_size=128 train.label_smoothing=0.1 \
    optim.base_batch=null optim.lr=2.5e-3 optim.min_lr=1e-5 compute.precision=bf16 data.workers=1
python scripts/demo/half_weights.py "$work/run/student.safetensors" scripts/demo/teacher.safetensors
