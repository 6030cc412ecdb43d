#!/bin/bash
# Submits a teacher pass: a job that makes the store, an array job that fills it, a job that checks it.
#
#   scripts/slurm/submit_teacher.sh 32 experiment=save_logits_in21k teacher.weights=FILE \
#       data.path=IN21K store.path=IN21K.zarr
#
# The first argument is the number of shares of the blocks: tasks of the array, one GPU each. The others are those of
# `python -m distill.save_logits`. Resources (partition, time, cores) are set in the three .sbatch files: adapt them
# there. Submitting again with the same arguments, whatever happened, does what is missing.
set -euo pipefail
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(dirname "$0")
shares=$1
shift
case $shares in '' | *[!0-9]* | 0) echo "the first argument is the number of shares, not '$shares'" >&2; exit 2 ;; esac

make=$(sbatch --parsable "$here/teacher_make.sbatch" "$@")
# If the store cannot be made, nothing else starts.
fill=$(SHARES=$shares sbatch --parsable --array="0-$((shares - 1))" --dependency="afterok:$make" \
    --kill-on-invalid-dep=yes "$here/teacher_share.sbatch" "$@")
# Also after failures: the check lists what is missing. It waits for requeued tasks.
check=$(sbatch --parsable --dependency="afterany:$fill" "$here/teacher_check.sbatch" "$@")
echo "job $make makes the store, array $fill fills it in $shares shares, job $check checks it"
