#!/usr/bin/env bash
# All three geometries of one task at full size: one zoo, a flow of each, their samples, and samples of other widths.
#
#   bash reports/geometries/run.sh mnist                 # about an hour on two quiet CPU cores
#   bash reports/geometries/run.sh wdbc geometric        # one geometry only
#
# Results go to reports/geometries/TASK/, and results.md there compares them. What is in data/geometries/TASK already is kept,
# so a run that was stopped goes on; a flow of other settings or of another zoo is trained anew, a zoo of other settings is not:
# delete data/geometries/TASK/zoo then.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH="$root/.venv/bin:$PATH" PYTHONPATH="$root"
task=${1:?name a task: mnist or wdbc}
shift
[ $# -gt 0 ] || set -- euclidean normalized geometric
work=$root/data/geometries/$task
results=$root/reports/geometries/$task
mkdir -p "$work/zoo"

settings() { # settings GEOMETRY: a params.yaml, what is not the preset's
  printf 'task: %s\nflow: {geometry: %s}\n' "$task" "$1"
  if [ "$task" = mnist ]; then # 10,000 test images: fewer networks
    echo 'evaluate: {zoo_networks: 100, barrier_networks: 20, steps: [4, 8, 32, 64], guidance: [0.0], curve_networks: 32}'
  else
    echo 'evaluate: {steps: [4, 8, 32, 64], guidance: [0.0]}'
  fi
}

training_settings() { # all that a flow's training depends on, beside its data
  python - "$root/stages/presets" <<'END'
import sys

from wflib.config import load_settings

settings = load_settings("params.yaml", sys.argv[1])
print(settings.flow, settings.velocity, settings.training, sep="\n")
END
}

cd "$work/zoo"
settings euclidean > params.yaml
with=(--params params.yaml --presets "$root/stages/presets")
[ -e data/dataset.safetensors ] || python -m stages.fetch_data "${with[@]}"
[ -e data/zoo/trained.safetensors ] || python -m stages.train_zoo "${with[@]}"
[ -e data/zoo/aligned.safetensors ] || python -m stages.align "${with[@]}"
[ -e data/zoo/canonical.safetensors ] || python -m stages.canonicalize

for geometry in "$@"; do
  mkdir -p "$work/$geometry" && cd "$work/$geometry"
  settings "$geometry" > params.yaml
  dataset=(--data ../zoo/data/dataset.safetensors)
  zoo=(--aligned ../zoo/data/zoo/aligned.safetensors --canonical ../zoo/data/zoo/canonical.safetensors)
  { training_settings && sha256sum ../zoo/data/dataset.safetensors ../zoo/data/zoo/*.safetensors; } > wanted.txt
  if ! [ -e data/flow.safetensors ] || ! cmp -s wanted.txt trained.txt; then
    python -m stages.train_flow "${with[@]}" "${dataset[@]}" "${zoo[@]}"
    mv wanted.txt trained.txt
  fi
  python -m stages.sample "${with[@]}" "${dataset[@]}"
  python -m stages.evaluate "${with[@]}" "${dataset[@]}" --trained ../zoo/data/zoo/trained.safetensors "${zoo[@]}"
  python -m stages.study_widths widths.csv "${dataset[@]}" --width 10 --width 16 --width 32 --width 64
  mkdir -p "$results/$geometry"
  cp reports/details.json "$results/$geometry/metrics.json"
  cp widths.csv reports/history.csv reports/stages/train-flow.json "$results/$geometry/"
done
cd "$root" && python -m stages.study_geometries "$results"
