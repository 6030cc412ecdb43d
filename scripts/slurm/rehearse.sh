#!/bin/bash
# Runs the scripts beside it on a local Slurm cluster: two nodes on this machine, CPUs only, small images.
#
#   scripts/slurm/rehearse.sh [FOLDER]        # default runs/slurm
#
# Jobs must last longer than the shortest limit that Slurm can set, a minute. EPOCHS and STEPS suit two idle cores; on a
# busy machine take fewer, and more minutes of notice: EPOCHS=8 STEPS=200 NOTICE=3.
#
# It needs root, Slurm and MUNGE (Debian: apt-get install slurmctld slurmd slurm-client munge), and `python` with this
# project's packages on PATH. It starts munged, slurmctld and two slurmds with a configuration in FOLDER, not as system
# services, on ports 17817 to 17819, and stops them at its end. It does not touch another Slurm.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "run it as root: slurmd does not start jobs as another user otherwise" >&2; exit 2; }
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || { echo "$program is missing: apt-get install slurmctld slurmd slurm-client munge" >&2; exit 2; }
done
work=$(realpath -m "${1:-runs/slurm}")
[ ! -e "$work" ] || { echo "$work is there already: remove it or name another folder" >&2; exit 2; }
mkdir -p "$work"/{state,logs}
export SLURM_CONF=$work/slurm.conf SETUP=: HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 PYTHONPATH=$PWD
host=$(hostname)
began=$SECONDS

say() { printf '\n[%4d s] $ %s\n' $((SECONDS - began)) "$*"; "$@"; }
note() { printf '\n[%4d s] %s\n' $((SECONDS - began)) "$*"; }

# --- a cluster of two nodes -----------------------------------------------------------------------------------------
cat >"$SLURM_CONF" <<CONF
ClusterName=local
SlurmctldHost=$host
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# Requeued jobs wait until their credential expires, by default 2 minutes.
AuthInfo=socket=$work/munge.socket,cred_expire=10
StateSaveLocation=$work/state
SlurmctldPidFile=$work/slurmctld.pid
SlurmctldLogFile=$work/logs/slurmctld.log
SlurmctldPort=17817
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
# The scripts ask for GPUs and many cores. Slurm only counts them here; they do not exist.
GresTypes=gpu
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17818 CPUs=96 Gres=gpu:8 State=UNKNOWN
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17819 CPUs=96 Gres=gpu:8 State=UNKNOWN
SlurmdPidFile=$work/slurmd.%n.pid
SlurmdLogFile=$work/logs/slurmd.%n.log
SlurmdSpoolDir=$work/spool.%n
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
CONF
echo "NodeName=node[1-2] Name=gpu File=/dev/tty[0-7]" >"$work/gres.conf"
(umask 077 && head -c 1024 /dev/urandom >"$work/munge.key")
daemons=()
stop_daemons() {
    scancel --quiet --user=root 2>/dev/null || true
    for _ in $(seq 60); do # Or jobs in their last seconds would outlive their slurmd.
        [ -n "$(squeue --noheader 2>/dev/null)" ] || break
        sleep 1
    done
    kill "${daemons[@]}" 2>/dev/null || true
    wait || true
}
trap stop_daemons EXIT
munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
    --log-file="$work/logs/munged.log" --seed-file="$work/munged.seed" 2>/dev/null &
daemons+=($!)
sleep 1
slurmctld -D 2>/dev/null &
daemons+=($!)
for node in node1 node2; do
    slurmd -D -N "$node" 2>/dev/null &
    daemons+=($!)
done
until [ "$(sinfo --noheader --format=%A 2>/dev/null)" = 0/2 ] && [ "$(sinfo --noheader --format=%t)" = idle ]; do sleep 1; done
say sinfo --Node --long

# --- helpers --------------------------------------------------------------------------------------------------------
wait_for() { # wait_for SECONDS COMMAND...: until it succeeds
    local limit=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$limit" ] || { echo "timed out: $*" >&2; squeue >&2; exit 1; }
        sleep 1
    done
}
ended() { [ -z "$(squeue --noheader --jobs="$1" 2>/dev/null)" ]; }
has_line() { grep -q -- "$1" "$2" 2>/dev/null; }
show_jobs() { scontrol show job --oneliner | grep -o -E '^JobId=[0-9]+|ArrayTaskId=[0-9]+|JobName=\S+|JobState=\S+|Restarts=[0-9]+|ExitCode=\S+' | paste -sd' ' | sed 's/ JobId=/\nJobId=/g'; }
step_of() { python - "$1" <<'PYTHON'
import json, pathlib, sys
lines = pathlib.Path(sys.argv[1], "metrics.jsonl").read_text().splitlines()
print(max(json.loads(line)["step"] for line in lines))
PYTHON
}

# These override the #SBATCH lines of the scripts. A job that should reach its limit gets a short one once it is running,
# because it is not known how long a busy machine takes to start it.
export SBATCH_TIMELIMIT=60 SBATCH_SIGNAL=B:USR1@30
limit_soon() { # limit_soon JOB: NOTICE minutes from now, less the part of this minute that has passed; Slurm checks twice per minute
    local minutes
    minutes=$(squeue --noheader --jobs="$1" --format=%M | awk -F: '{print (NF > 2 ? $1 * 60 : 0) + $(NF - 1)}')
    say scontrol update JobId="$1" TimeLimit=$((minutes + ${NOTICE:-1}))
}
logs=$work/logs
export SBATCH_OUTPUT="$logs/%x-%A_%a.log"

# --- data -----------------------------------------------------------------------------------------------------------
python scripts/demo/fashion_mnist.py unpack "$work/images"
python -m distill.pack "$work/images/train" "$work/train" --workers 1 2>/dev/null

# --- teacher pass: three shares; one is killed, one is requeued, all reach the time limit; then the check ----------------
teacher=(teacher=tiny_vit teacher.weights=scripts/demo/teacher.safetensors view=fashion data.path="$work/train"
    store.topk=3 store.epochs="${EPOCHS:-40}" store.rows_per_block=250 data.workers=0 batch_size=50 compute.threads=1)
say scripts/slurm/submit_teacher.sh 3 "${teacher[@]}" store.path="$work/teacher.zarr" | tee "$work/submitted"
read -r fill check < <(sed -n 's/.*array \([0-9]*\) .*job \([0-9]*\) checks.*/\1 \2/p' "$work/submitted")
for share in 0 1 2; do wait_for 900 has_line "blocks to do" "$logs/teacher-${fill}_$share.log"; done
sleep 15
say squeue --format='%.10i %.14j %.10T %.8M %R'
limit_soon "${fill}_0"
note "share 1 is killed, as by a node that runs out of memory"
say pkill --signal KILL --full '^[^ ]*python -m distill.save_logits .*run.share=1/3'
note "share 2 is requeued, as Slurm does with a preempted job in the mode requeue"
say scontrol requeue "${fill}_2"
for share in 1 0; do
    wait_for 300 has_line "back into the queue" "$logs/teacher-${fill}_$share.log"
done
say scontrol update JobId="${fill}_0" TimeLimit=60
say squeue --format='%.10i %.14j %.10T %.8M %R'
wait_for 2400 ended "$fill,$check"
say show_jobs
for share in 0 1 2; do say grep -E 'job.sh|blocks to do|stopped|complete|Restarts' "$logs/teacher-${fill}_$share.log"; done
say cat "$logs"/teacher-check-*.log
note "the same pass in one run, for comparison: are the two stores equal?"
python -m distill.save_logits "${teacher[@]}" store.path="$work/whole.zarr" 2>/dev/null
say python -m logitstore diff "$work/teacher.zarr" "$work/whole.zarr"

# --- student pass: two nodes of one process; it reaches the time limit --------------------------------------------------
student=(data.path="$work/train" store.path="$work/teacher.zarr" student=tiny_vit_micro student.image_size=28
    train.steps="${STEPS:-1200}" train.batch_size=32 optim.base_batch=null data.workers=0 run.log_every=10 compute.threads=1)
export PROCESSES=1 HEAD=127.0.0.1 # node1 is a name that only this Slurm knows.
say sbatch --nodes=2 scripts/slurm/student.sbatch "${student[@]}" run.dir="$work/student" | tee "$work/submitted"
job=$(awk '/Submitted/ {print $NF}' "$work/submitted")
wait_for 900 test -e "$work/student/metrics.jsonl"
limit_soon "$job"
say squeue --format='%.10i %.14j %.10T %.8M %R'
wait_for 600 has_line "back into the queue" "$logs/student-${job}_4294967294.log"
say scontrol update JobId="$job" TimeLimit=60
note "stopped after step $(step_of "$work/student")"
say cat "$work/student/requeue"
wait_for 2400 ended "$job"
say show_jobs
say grep -E 'job.sh|processes on|stopped|continu|goes on|finished' "$logs/student-${job}_4294967294.log"
note "the same run, undisturbed: are the weights equal?"
python -m torch.distributed.run --standalone --nproc-per-node=2 -m distill.train_student "${student[@]}" \
    run.dir="$work/undisturbed" >"$logs/undisturbed.log" 2>&1
# The files differ in their metadata, which names the run's folder.
python - "$work"/{student,undisturbed}/student.safetensors <<'PYTHON'
import sys

import numpy as np
from safetensors.numpy import load_file

one, other = map(load_file, sys.argv[1:])
assert one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one), "weights differ"
print(f"{len(one)} tensors equal")
PYTHON

# --- a cancelled job does not come back ---------------------------------------------------------------------------------
say sbatch --nodes=1 scripts/slurm/student.sbatch "${student[@]}" run.dir="$work/cancelled" | tee "$work/submitted"
job=$(awk '/Submitted/ {print $NF}' "$work/submitted")
wait_for 900 test -e "$work/cancelled/metrics.jsonl"
say scancel --full "$job"
wait_for 300 ended "$job"
sleep 5
say scontrol show job "$job" --oneliner | grep -E -o 'JobState=\S+|Restarts=\S+'
note "done: stores equal, weights equal"
