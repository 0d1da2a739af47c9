#!/usr/bin/env bash
# MNIST: one zoo, a flow of each geometry, their samples, and samples of other widths; results in reports/mnist/.
# About an hour and a half on two quiet CPU cores. `bash reports/mnist/run.sh euclidean` runs one geometry only; what is
# already there is kept, so a run that was stopped goes on.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/.venv/bin:$PATH" PYTHONPATH="$root"
work=$root/data/mnist
mkdir -p "$work/zoo"

settings() { # settings FLOW.GEOMETRY: a params.yaml; fewer networks in the evaluation than by default, 10,000 images each
  printf 'task: mnist\nflow: {geometry: %s}\nsample: {networks: 100}\n' "$1"
  printf 'evaluate: {zoo_networks: 100, barrier_networks: 20, steps: [4, 8, 32, 64], guidance: [0.0], curve_networks: 32}\n'
}

cd "$work/zoo"
settings euclidean > params.yaml
with="--params params.yaml --presets $root/stages/presets"
[ -e data/dataset.safetensors ] || python -m stages.fetch_data $with
[ -e data/zoo/trained.safetensors ] || python -m stages.train_zoo $with
[ -e data/zoo/aligned.safetensors ] || python -m stages.align $with
[ -e data/zoo/canonical.safetensors ] || python -m stages.canonicalize

[ $# -gt 0 ] || set -- euclidean normalized geometric
for geometry in "$@"; do
  mkdir -p "$work/$geometry" && cd "$work/$geometry"
  settings "$geometry" > params.yaml
  zoo=../zoo/data
  parts="--aligned $zoo/zoo/aligned.safetensors --canonical $zoo/zoo/canonical.safetensors"
  [ -e data/flow.safetensors ] || python -m stages.train_flow $with --data $zoo/dataset.safetensors $parts
  python -m stages.sample $with --data $zoo/dataset.safetensors
  python -m stages.evaluate $with --data $zoo/dataset.safetensors --trained $zoo/zoo/trained.safetensors $parts
  python -m stages.study_widths widths.csv --data $zoo/dataset.safetensors --width 10 --width 16 --width 32 --width 64
  mkdir -p "$root/reports/mnist/$geometry"
  cp reports/metrics.json widths.csv "$root/reports/mnist/$geometry/"
  [ ! -e reports/stages/train-flow.json ] || cp reports/history.csv reports/stages/train-flow.json "$root/reports/mnist/$geometry/"
done
