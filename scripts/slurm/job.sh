# shellcheck shell=bash
# Functions of all jobs: signals reach the program, and a job that is not finished goes back into the queue.
# Jobs source this file from the folder that they were submitted in, the repository's root.
#
# SETUP      a command that puts the right `python` on PATH, such as SETUP='source .venv/bin/activate' (the default if
#            there is a .venv)
# FAILURES   consecutive failures after which a job is not tried again (default 3)

if [ -n "${SETUP:-}" ]; then
    eval "$SETUP"
elif [ -f .venv/bin/activate ]; then
    # shellcheck disable=SC1091  # Made by scripts/setup.sh.
    source .venv/bin/activate
fi

# The value of a setting among a program's arguments: setting run.dir "$@". The last one counts, as in the program.
setting() {
    local name=$1 argument value=
    shift
    for argument in "$@"; do
        case $argument in "$name="*) value=${argument#*=} ;; esac
    done
    if [ -z "$value" ]; then
        echo "give $name=... among the arguments of the script" >&2
        exit 2
    fi
    printf '%s\n' "$value"
}

# Runs a command to its end, and forwards the signals that Slurm sends to this shell: SIGUSR1 some time before the job's
# limit (--signal=B:USR1@...), SIGTERM when the job is preempted. Both reach the program as SIGUSR1; it finishes its
# step or block and writes its marker file. Without `&` and `wait` the shell would handle a signal only afterwards.
run_to_its_end() {
    local child code signalled
    "$@" &
    child=$!
    trap 'signalled=1; echo "job.sh: forwarding a signal"; kill -USR1 "$child" 2>/dev/null' USR1 TERM
    while :; do
        signalled=
        wait "$child"
        code=$?
        [ -n "$signalled" ] || break # A signal ends `wait`, and not the command.
    done
    trap - USR1 TERM
    return "$code"
}

# Ends the job: back into the queue if MARKER says that the program stopped in good order, or if it failed and may be
# tried again. A cancelled job, which gets SIGTERM too, does not come back. end_job MARKER EXIT_CODE
end_job() {
    local marker=$1 code=$2 job failures
    # The array's own number would name all of its tasks.
    job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    job=${job:-$SLURM_JOB_ID}
    failures=slurm-failures-$job
    if [ -e "$marker" ]; then
        rm -f "$failures"
        echo "job.sh: stopped in good order: $(cat "$marker")"
    elif [ "$code" -eq 0 ]; then
        rm -f "$failures"
        exit 0
    else
        echo "$(date +%FT%T) $(hostname) exit code $code" >>"$failures"
        echo "job.sh: failed with exit code $code, $(wc -l <"$failures") times since the last good stop"
        # 2 is wrong usage, which would fail again.
        if [ "$code" -eq 2 ] || [ "$(wc -l <"$failures")" -ge "${FAILURES:-3}" ]; then
            exit "$code"
        fi
    fi
    if [ "$(squeue --noheader --jobs="$job" --format=%T)" = RUNNING ]; then
        echo "job.sh: back into the queue"
        scontrol requeue "$job"
    fi
    exit "$code"
}
