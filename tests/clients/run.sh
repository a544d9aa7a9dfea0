#!/bin/sh
# make check-clients: unchanged clients and lm-evaluation-harness against `mixt serve`, with a small
# model that learns from our own documentation first.
#
#   tests/clients/run.sh BUILD PYTHON [FOLDER of *.jinja]
set -eu
build=$1
python=$2
templates=${3:-}
here=$(dirname "$0")
packages="openai ollama langchain_openai lm_eval torch transformers tenacity aiohttp"
for package in $packages; do
    if ! "$python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$package') is None)"; then
        echo "check-clients: $python has no $package (PYTHON=... of an environment with" \
            "openai ollama langchain-openai 'lm-eval[api]' torch transformers)" >&2
        exit 1
    fi
done
# Several threads of torch for matrices of 64 x 64 wait for each other most of the time.
export OMP_NUM_THREADS=1
run=$build/clients
cat docs/*.md >"$build/clients.txt"
"$build/mixt" train --data "$build/clients.txt" --out "$run" --steps 120 --vocab-size 1024 --layers 3 \
    --hidden-size 64 --heads 4 --kv-heads 2 --head-dim 16 --ffn-size 96 --experts 8 --window 128 \
    --context-length 1024 --batch-size 8 --learning-rate 0.003 >"$build/clients.log" 2>&1 || {
    tail -5 "$build/clients.log" >&2
    exit 1
}
failed=0
"$python" "$here/clients.py" --mixt "$build/mixt" --model "$run/model" || failed=1
"$python" "$here/embeddings.py" --mixt "$build/mixt" --model "$run/model" --texts "$build/clients.txt" || failed=1
"$python" "$here/lm_eval_scores.py" --mixt "$build/mixt" --model "$run/model" --texts "$build/clients.txt" \
    --items 100 2>"$build/clients.log" || {
    tail -20 "$build/clients.log" >&2
    failed=1
}
if [ -n "$templates" ]; then
    "$python" "$here/templates.py" --mixt "$build/mixt" --model "$run/model" --templates "$templates" || failed=1
fi
exit $failed
