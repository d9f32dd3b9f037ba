#!/bin/bash
# A search on a Ray cluster of its own, one node for each machine of the job. See slurm.md.
#SBATCH --job-name=nas
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

FILE=${1:?the study file}
shift
port=$((20000 + ${SLURM_JOB_ID:?run this by sbatch} % 10000)) # above the ports of workers, which are 10002 to 19999
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=${hosts[0]}:$port

# A token for this job alone, in a folder that all machines see and no other user can read.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${NAS_TOKENS:-$HOME/.nas-tokens}/$SLURM_JOB_ID
(umask 077 && mkdir -p "${RAY_AUTH_TOKEN_PATH%/*}" && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH")
trap 'kill $(jobs -p) 2>/dev/null || true; rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT

# Each `ray start` stays in the foreground of its step, so that the step's end is the node's end.
start_node() { # host, arguments of ray start
    srun --nodes=1 --ntasks=1 --nodelist="$1" --overlap \
        ray start "${@:2}" --block --disable-usage-stats --num-cpus="${SLURM_CPUS_PER_TASK:-1}" \
        ${NAS_HARDWARE:+--labels=nas.hardware=$NAS_HARDWARE} &
}
start_node "${hosts[0]}" --head --port="$port" --include-dashboard=false
for _ in $(seq 60); do
    ray health-check --address "$address" > /dev/null 2>&1 && break
    sleep 1
done
ray health-check --address "$address" # ends the job where there is no head
for host in "${hosts[@]:1}"; do
    start_node "$host" --address="$address"
done

# The batch script runs on the first machine, which is a node of the cluster. SLURM sends it SIGTERM before the time is
# over; the search then saves and ends, and the job goes back into the queue.
nas search "$FILE" --ray-address "$address" --no-progress "$@" &
search=$!
trap 'kill -TERM $search' TERM
wait $search && code=0 || code=$?
if [ $code -ge 128 ] && kill -0 $search 2>/dev/null; then # it was `wait` that the signal ended
    wait $search && code=0 || code=$?
fi
if [ $code -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
