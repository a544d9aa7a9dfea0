#!/bin/sh
# All tables of docs/performance.md, with the model files that they need (random weights at real shapes; each is
# made before its table and removed behind it). Raw samples go to bench/results/TABLE.json, the tables to
# bench/results/TABLE.md. About half an hour on two cores.
#
#   LLAMA=FOLDER [LLAMA_AVX2=FOLDER] [IK=FOLDER] [PYTHON=python] bench/performance_tables.sh [TABLE ...]
#
# The folders hold llama-bench: of llama.cpp built for this machine (-DGGML_NATIVE=ON) and for AVX2 alone
# (-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON), and of ik_llama.cpp; PYTHON has torch
# and transformers. A table whose peer is not given is left out. ROUNDS (5), MODELS (a folder for the files, /tmp;
# 5 GB at a time), MIXT, WRAP (a command before each program), PRIORITY (set and empty: not under chrt), LOCK (for
# train_versus_pytorch.py) and RESULTS (bench/results) change what it says.
# shellcheck disable=SC2086 # lists of words
set -eu
cd "$(dirname "$0")/.."
MIXT=${MIXT:-build/release/mixt}
ROUNDS=${ROUNDS:-5}
MODELS=${MODELS:-/tmp}
RESULTS=${RESULTS:-bench/results}
WRAP=${WRAP:-}
PRIORITY=${PRIORITY---priority}
SHAPES=build/release/bench/real_shapes
TABLES=${*:-machine olmoe floats types families prompt4096 depth4096 depth16384 depth32768 avx2 many operators train-A train-B}
mkdir -p "$RESULTS"

# make_file NAME MIX LAYERS CONTEXT: the path in $file, all of it in the page cache
make_file() {
    file=$MODELS/$1-$2-$3-layers.gguf
    [ -f "$file" ] || "$SHAPES" "$1" "$2" "$file" "$3" "$4"
    cat "$file" >/dev/null
}

# versus TABLE ROUNDS FLAGS...: FILE is among the flags; rows behind those of the table's other files
versus() {
    table=$1 rounds=$2
    shift 2
    echo "== $table: $*" >&2
    python3 bench/speed_versus_llama_cpp.py --mixt "$MIXT" --rounds "$rounds" --wrap "$WRAP" $PRIORITY \
        --save "$RESULTS/$table.json" "$@" >"$RESULTS/$table.md"
    cat "$RESULTS/$table.md"
}

# files TABLE FLAGS... -- NAME MIX LAYERS CONTEXT, four words a file: a result file for each
files() {
    name=$1 flags=
    shift
    while [ "$1" != -- ]; do
        flags="$flags $1"
        shift
    done
    shift
    while [ $# -ge 4 ]; do
        make_file "$1" "$2" "$3" "$4"
        versus "$name-$1-$2" "$ROUNDS" $flags "$file"
        rm -f "$file"
        shift 4
    done
}

# depth TOKENS NAME LAYERS ROUNDS TYPES: generation behind that many tokens, each cache type in turn. "own": each program's
# default, which is F32 here and F16 there, for llama-bench has no F32.
depth() {
    make_file "$2" Q4_K_M "$3" 40960
    for type in $5; do
        flags=
        [ "$type" = own ] || flags="--cache-type $type"
        [ "$2" = olmoe ] || [ -z "$IK" ] || flags="$flags --peer ik_llama.cpp=$IK"
        versus "depth$1-$2-$type" "$4" --peer "llama.cpp=$LLAMA" --prompt 0 --generate 32 --depth "$1" $flags "$file"
    done
    rm -f "$file"
}

# run NAME COMMAND...: what it prints, kept
run() {
    out=$RESULTS/$1.txt
    shift
    echo "== $*" | tee "$out"
    $WRAP ${PRIORITY:+chrt -r 5} "$@" | tee -a "$out"
}

# train SHAPE ROUNDS FORMS...
train() {
    shape=$1 rounds=$2
    shift 2
    "$PYTHON" bench/train_versus_pytorch.py --shapes "$shape" --rounds "$rounds" --patience 5 \
        --program "$MIXT" $PRIORITY ${LOCK:+--lock "$LOCK"} --save "$RESULTS/train-$shape.json" "$@" |
        tee "$RESULTS/train-$shape.md"
}

LLAMA=${LLAMA:-} IK=${IK:-} LLAMA_AVX2=${LLAMA_AVX2:-} PYTHON=${PYTHON:-} LOCK=${LOCK:-}
for table in $TABLES; do
    case $table in
    olmoe | floats | types | families | prompt4096 | depth*) [ -n "$LLAMA" ] || continue ;;
    avx2) [ -n "$LLAMA_AVX2" ] || continue ;;
    train-*) [ -n "$PYTHON" ] || continue ;;
    esac
    short="--prompt 512 --generate 32"
    case $table in
    machine) run machine "$MIXT" info --machine ;;
    olmoe) files olmoe --peer "llama.cpp=$LLAMA" --prompt 512 --generate 64 --load -- olmoe Q4_K_M 16 4096 ;;
    floats) files floats --peer "llama.cpp=$LLAMA" $short -- olmoe BF16 4 4096 olmoe F16 4 4096 ;;
    types) files types --peer "llama.cpp=$LLAMA" $short -- olmoe Q8_0 4 4096 olmoe Q6_K 4 4096 \
        olmoe Q4_0 4 4096 olmoe MXFP4 4 4096 ;;
    families) files families --peer "llama.cpp=$LLAMA" ${IK:+--peer "ik_llama.cpp=$IK"} $short -- qwen2moe Q4_K_M 4 8192 \
        mixtral Q4_K_M 4 32768 deepseek Q4_K_M 4 4096 ;;
    prompt4096) files prompt4096 --peer "llama.cpp=$LLAMA" --prompt 4096 --generate 0 -- olmoe Q4_K_M 4 40960 ;;
    depth4096)
        depth 4096 olmoe 4 3 "own f16 bf16 q8_0"
        depth 4096 qwen2moe 4 3 "f16 q8_0"
        ;;
    depth16384) depth 16384 olmoe 2 2 "f16 q8_0" ;;
    depth32768) depth 32768 olmoe 2 1 "f16" ;;
    avx2) files avx2 --cpu avx2 --peer "llama.cpp=$LLAMA_AVX2" $short -- olmoe Q4_K_M 4 4096 olmoe BF16 4 4096 \
        olmoe Q8_0 4 4096 ;;
    many)
        make_file olmoe Q4_K_M 4 4096
        run many build/release/bench/many_sequences "$file" 64 64 2
        rm -f "$file"
        ;;
    operators)
        run operators-A "$MIXT" bench --train --operators --vocab-size 256 --hidden-size 256 --layers 4 --heads 8 \
            --kv-heads 8 --head-dim 0 --experts 8 --ffn-size 512 --experts-per-token 2 --context-length 256 --batch-size 8 \
            --window 256 --repetitions 5
        ;;
    train-A) train A "$ROUNDS" ;;
    train-B) train B 3 --form-steps 1 --form "PyTorch grouped=--experts grouped_mm --warm-up 1" \
        --form "PyTorch grouped, compiled=--experts grouped_mm --compile default --warm-up 1" \
        --form "PyTorch loop bf16=--experts eager --bf16 --warm-up 1" ;;
    *)
        echo "performance_tables.sh: $table: no such table" >&2
        exit 2
        ;;
    esac
done
