#!/bin/sh
# Prints the commands of the runs in docs/results.md that need no download, one a line:
#
#   sh docs/results_runs.sh DATA RUNS [SAMPLES] > commands && sh -e commands
#   python -m iql_jax.report book RUNS --output docs/results.md
#
# DATA is a folder for data that is made, RUNS one for the run directories. SAMPLES, where there is
# one, holds files of recorded data: hopper_medium_replay.hdf5, door_human.hdf5 and the folder
# auctionnet. The commands for the published tables, which do need downloads, come from
# `python -m iql_jax.report commands`.
set -eu
data=$1 runs=$2 samples=${3:-}
common="--seed=0 --num_seeds=${NUM_SEEDS:-2} --wandb_mode=disabled"
python=${PYTHON:-python}

# run NAME UPDATES FLAGS...: IQL and behaviour cloning, evaluated half way and at the end.
run() {
    name=$1 updates=$2
    shift 2
    for agent in iql bc; do
        echo "$variables $python train_offline.py $common $* --config.agent=$agent" \
            "--max_steps=$updates --eval_interval=$((updates / 2)) --save_dir=$runs/$name-$agent"
    done
}

variables="IQL_JAX_DATA_DIR=$data MINARI_DATASETS_PATH=$data/minari"
if [ -z "${NO_RECORDING:-}" ]; then
    echo "mkdir -p $data/minari"
    echo "$python -m examples.record_data cartpole $data/cartpole.npz"
    echo "$python -m examples.record_data kitchen $data/kitchen.npz"
    echo "$variables $python -m examples.record_data reach iql-jax/reach-clumsy-v0"
fi

run pointmaze 20000 --config=configs/pointmaze.py --eval_episodes=50
run antmaze 20000 --config=configs/antmaze.py --eval_episodes=20
run minari-reach 10000 --config=configs/locomotion.py --config.reward_transform=none \
    --config.expectile=0.9 --env_name=minari/iql-jax/reach-clumsy-v0 --eval_episodes=50
run cartpole 10000 --config=configs/discrete.py --dataset=file/$data/cartpole.npz --eval_episodes=50
run kitchen 20000 --config=configs/kitchen.py --env_name=kitchen-partial-v0 \
    --dataset=file/$data/kitchen.npz
# OGBench's networks (four layers of 512) take ten times as long.
run ogbench-task1 20000 --config=configs/ogbench.py "'--config.hidden_dims=(256,256)'" \
    --eval_episodes=20
run ogbench-all 10000 --config=configs/ogbench.py "'--config.hidden_dims=(256,256)'" \
    --env_name=generated/ogbench-antmaze-medium-navigate-singletask-all-v0 --eval_episodes=10 \
    --num_seeds=1
if [ -n "$samples" ]; then
    run hopper 20000 --config=configs/locomotion.py --env_name=hopper-medium-replay-v2 \
        --dataset=file/$samples/hopper_medium_replay.hdf5
    run door 20000 --config=configs/adroit.py --env_name=door-human-v1 \
        --dataset=file/$samples/door_human.hdf5 --eval_episodes=20
    run auctionnet 20000 --config=configs/auctionnet.py --env_name=auctionnet/$samples/auctionnet
    run auctionnet-relative 20000 --config=configs/auctionnet.py \
        --env_name=auctionnet/$samples/auctionnet@relative
fi
