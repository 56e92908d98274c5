#!/bin/bash
# Submits experiments/slurm/*.sbatch to a real Slurm of one node on this machine: two ranks train the smoke experiment, get
# the signal that Slurm sends before a time limit, are queued again, go on to the end, and predict.
# Needs root and Debian's packages: apt-get install slurm-wlm munge. Keeps daemons, keys and ports of its own, leaves a
# Slurm that is already here alone, and ends what it has started. Usage, from the repository's root: tests/slurm/run.sh
set -euo pipefail

PATH=$PATH:/usr/sbin:/sbin
for needed in munged slurmctld slurmd sbatch srun; do
  command -v "$needed" > /dev/null || { echo "there is no $needed here: apt-get install slurm-wlm munge"; exit 1; }
done
[[ $(id -u) == 0 ]] || { echo "Slurm's daemons need root here"; exit 1; }
[[ -f experiments/slurm/fit.sbatch ]] || { echo "run this from the repository's root"; exit 1; }

folder=$(mktemp -d /tmp/emseg-slurm.XXXXXX)
host=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
daemons=()

clean() {
  status=$?
  trap - EXIT
  if ((status)); then
    tail -n 40 "$folder"/*.log
  fi
  squeue --noheader --format=%i 2> /dev/null | xargs --no-run-if-empty scancel 2> /dev/null || true
  # Slurm's own processes below the jobs would outlive the daemons.
  for _ in {1..60}; do
    [[ -z $(squeue --noheader 2> /dev/null) ]] && break
    sleep 0.5
  done
  for daemon in "${daemons[@]}"; do
    kill "$daemon" 2> /dev/null && wait "$daemon" 2> /dev/null
  done
  rm -rf "$folder"
  exit "$status"
}
trap clean EXIT

mkdir "$folder/state" "$folder/spool"
dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chmod 400 "$folder/munge.key"
cat > "$SLURM_CONF" << CONF
ClusterName=emseg
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
MpiDefault=none
KillWait=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES State=UP
CONF

# --force: the folder lies below /tmp, which all may write to.
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
  --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" \
  2> "$folder/munged.err.log" &
daemons+=($!)
# Slurm looks for a running munge when it starts.
until [[ -S $folder/munge.socket ]]; do sleep 0.2; done
slurmctld -D > "$folder/slurmctld.log" 2>&1 &
daemons+=($!)
slurmd -D > "$folder/slurmd.log" 2>&1 &
daemons+=($!)

# until_true SECONDS WHAT COMMAND…
until_true() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < end)) || { echo "gave up waiting until $what"; return 1; }
    [[ -z ${job:-} ]] || ! job_is "$job" FAILED || { echo "job $job has failed"; return 1; }
    sleep 0.5
  done
  echo "$(date +%T) $what"
}
node_is_idle() { sinfo --noheader --format=%t 2> /dev/null | grep -qx idle; }
until_true 60 "the node is up" node_is_idle

job_is() { scontrol show job "$1" | grep -q "JobState=$2"; }
said() { grep -q "$2" "$folder/$1.log"; }
submit() {
  local verb=$1
  shift
  sbatch --parsable --ntasks-per-node=2 --cpus-per-task=1 --time=15 --output="$folder/$verb.log" \
    "experiments/slurm/$verb.sbatch" --config experiments/smoke.yaml --data.store "$folder/smoke.zarr" \
    --trainer.accelerator cpu --trainer.default_root_dir "$folder/run" "$@"
}

job=$(submit fit --trainer.max_epochs 12 --trainer.enable_progress_bar false)
echo "$(date +%T) fit is job $job"
until_true 180 "the first checkpoint is written" test -f "$folder/run/checkpoints/last.ckpt"
# What `--signal=B:USR1@300` does before the limit.
scancel --batch --signal=USR1 "$job"
until_true 60 "the ranks have stopped" said fit "stopped by SIGUSR1"
until_true 60 "the job is queued again" job_is "$job" PENDING
# Slurm makes jobs that were queued again wait for two minutes. The node refuses a second start in the second of the end of
# the first ("Job credential revoked").
sleep 3
scontrol update JobId="$job" StartTime=now
until_true 400 "the fit is complete" job_is "$job" COMPLETED

scontrol show job "$job" | grep -q "Restarts=1" || { echo "the job was not started twice"; exit 1; }
said fit "Restored all states from the checkpoint at .*last.ckpt" || { echo "the fit began anew"; exit 1; }
said fit "MEMBER: 2/2" || { echo "there were no two ranks"; exit 1; }
[[ ! -e $folder/run/earlier/1/checkpoints ]] || { echo "the checkpoints were put aside"; exit 1; }
compgen -G "$folder/run/hpc_ckpt*" && { echo "Lightning has kept a second checkpoint"; exit 1; }
python - "$folder/run" << 'PYTHON'
import sys, torch
last = torch.load(f"{sys.argv[1]}/checkpoints/last.ckpt", weights_only=True)
# 16 patches an epoch, 4 of them a batch, over two ranks: two steps.
assert (last["epoch"], last["global_step"]) == (11, 24), (last["epoch"], last["global_step"])
PYTHON

job=$(submit predict --writer.out "$folder/out.zarr")
echo "$(date +%T) predict is job $job"
until_true 180 "the prediction is complete" job_is "$job" COMPLETED
[[ $(compgen -G "$folder/out.zarr/test/*/zarr.json" | wc -l) == 2 ]] || { echo "not both mosaics were predicted"; exit 1; }
grep -hE "GLOBAL_RANK|stopped by|Restored all|held an earlier|predictions:" "$folder"/fit.log "$folder"/predict.log
echo "Slurm: all as it should be"
