#!/bin/bash
# Two machines on this one: two network namespaces, each with an address, a host name and an sshd of its
# own, and a cable between them (veth). mpirun starts ranks on both over ssh, and their bytes go by TCP:
# the bits of one machine, what happens where one dies or the cable is pulled, and the repair. As root;
# needs openssh-server, iproute2, Open MPI and a built tree; leaves nothing behind. Ends with "N passed,
# M failed".
#
#   two_machines.sh speed [--delay MICROSECONDS] [--rate BITS] [--rounds N]
#
# times steps instead, over a wire (bench/slow_wire.c) on which a message is that late (500) and that many
# bits pass in a second each way (1e9), beside what is predicted of it: `bench/ranks.py apart`. A rank has a
# core. WRAP is a command to run before each timed one, EACH before each rank, MPI_OPTIONS are mpirun's, and
# LABEL goes into the name of the raw values.
set -u
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
build=${BUILD:-$root/build/release}
. "$root/tests/check.sh"
subject="two machines: "
speed=
delay=500
rate=1e9
rounds=5
wire=
[ "${1-}" != speed ] || { speed=yes; shift; }
while [ $# -gt 0 ]; do
    case $speed$1 in
    yes--delay) delay=${2-} ;;
    yes--rate) rate=${2-} ;;
    yes--rounds) rounds=${2-} ;;
    *)
        echo "two_machines.sh [speed [--delay MICROSECONDS] [--rate BITS] [--rounds N]]" >&2
        exit 2
        ;;
    esac
    shift 2 || exit 2
done
a=10.77.0.1
b=10.77.0.2
folder=$(mktemp -d) || exit 1
chmod 755 "$folder"

end() {
    local machine
    for machine in a b; do
        fall "$machine"
        ip netns del "mixt-$machine" 2>/dev/null
    done
    [ -z "$wire" ] || { kill "$wire" && wait "$wire"; }
    rm -rf "$folder"
}

# Ends all processes of a machine.
fall() {
    local ids
    ids=$(ip netns pids "mixt-$1" 2>/dev/null)
    # shellcheck disable=SC2086
    [ -z "$ids" ] || kill -9 $ids 2>/dev/null
}

# on MACHINE COMMAND...
on() {
    local machine=mixt-$1
    shift
    ip netns exec "$machine" unshare --uts sh -c 'hostname "$1" && shift && exec "$@"' sh "$machine" "$@"
}

rise() {
    mkdir -p /run/sshd
    on "$1" /usr/sbin/sshd -f /dev/null -h "$folder/host" -o "AuthorizedKeysFile=$folder/key.pub" -o StrictModes=no \
        -o PermitRootLogin=yes -o UsePAM=no -o MaxStartups=100 -o "PidFile=none"
}

plug_cable() {
    ip -n mixt-a link add cable type veth peer name cable netns mixt-b
}

# Large packets, so that the wire takes little of the processors that compute, and windows of TCP as long and
# late networks want them.
plug_wire() {
    local machine i
    "$build/bench/slow_wire" mixt-wire-a mixt-wire-b "$delay" "$rate" &
    wire=$!
    for ((i = 0; i < 50; i++)); do
        ip link show mixt-wire-b >"$folder/out" 2>&1 && break
        sleep 0.1
    done
    for machine in a b; do
        ip link set mixt-wire-$machine netns mixt-$machine && ip -n mixt-$machine link set mixt-wire-$machine name cable &&
            ip -n mixt-$machine link set cable mtu 65000 &&
            ip netns exec mixt-$machine sysctl -qw net.ipv4.tcp_slow_start_after_idle=0 \
                net.ipv4.tcp_rmem="4096 4194304 16777216" net.ipv4.tcp_wmem="4096 4194304 16777216" || return 1
    done
}

make_machines() {
    ip netns add mixt-a && ip netns add mixt-b && if [ -n "$speed" ]; then plug_wire; else plug_cable; fi &&
        ip -n mixt-a address add $a/24 dev cable && ip -n mixt-b address add $b/24 dev cable || return 1
    local machine
    for machine in a b; do
        ip -n mixt-$machine link set lo up && ip -n mixt-$machine link set cable up || return 1
    done
    ssh-keygen -q -t ed25519 -N "" -f "$folder/host" && ssh-keygen -q -t ed25519 -N "" -f "$folder/key" || return 1
    printf '%s slots=8\n' $a $b >"$folder/hosts"
    rise a && rise b && on a ssh -i "$folder/key" -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
        -o LogLevel=ERROR root@$b hostname | grep -qx mixt-b
}

# What starts {ranks} of a command in turns on both, seen from the first.
mpi="mpirun --allow-run-as-root --hostfile $folder/hosts --map-by node --bind-to none --mca plm_rsh_agent
    'ssh -i $folder/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR'
    --mca btl tcp,self --mca btl_tcp_if_include $a/24 --mca oob_tcp_if_include $a/24"
# A machine that is there no longer is missed by mpirun's own connections.
mpi="$mpi --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 --mca oob_tcp_keepalive_probes 3"

# launch RANKS COMMAND...
launch() {
    local count=$1
    shift
    eval "on a timeout -k 5 600 $(echo "$mpi" | tr '\n' ' ') -n $count \"\$@\""
}

# ---------------------------------------------------------------------------------------------
# What they compute

train=(train --data "$folder/text.txt" --layers 2 --hidden-size 32 --ffn-size 32 --heads 2 --head-dim 16 --experts 8
    --vocab-size 300 --window 32 --batch-size 1 --accumulation 8 --threads 1 --exact-reduce --warmup 5)

make_text() {
    local i
    for ((i = 0; i < 400; i++)); do
        echo "line $i: the quick brown $((i * 7919 % 97)) jumps over $((i * 31 % 11)) dogs and runs $((i * i % 1013))"
    done >"$folder/text.txt"
    "$build/mixt" "${train[@]}" --steps 30 --out "$folder/one"
}

hosts() {
    launch 4 hostname | sort | uniq -c | awk '{ print $2, $1 }' | diff - <(printf 'mixt-a 2\nmixt-b 2\n')
}

same_model() {
    cmp "$1/model/model.safetensors" "$2/model/model.safetensors"
}

trains() {
    launch "$1" "$build/mixt" "${train[@]}" --steps 30 --data-parallel "$2" --out "$folder/run-$1-$2" &&
        same_model "$folder/one" "$folder/run-$1-$2"
}

runs() {
    local say=(run -m "$folder/one/model" -p "line 7: the" -n 40 --temperature 0 --threads 1)
    "$build/mixt" "${say[@]}" >"$folder/alone.txt" 2>/dev/null && launch "$1" "$build/mixt" "${say[@]}" >"$folder/said.txt" &&
        diff "$folder/alone.txt" "$folder/said.txt" && [ -s "$folder/said.txt" ]
}

# ---------------------------------------------------------------------------------------------
# What ends them

steps=1000
long() {
    launch 2 "$build/mixt" "${train[@]}" --steps $steps --checkpoint-every 100 --out "$folder/long"
}

long_alone() {
    "$build/mixt" "${train[@]}" --steps $steps --checkpoint-every 0 --out "$folder/long-one"
}

checkpoint() {
    find "$folder/long" -maxdepth 1 -name 'step-????????' 2>/dev/null | sort | tail -n 1
}

# lose COMMAND...: what happens behind the next checkpoint of a run; the others end in 60 seconds
lose() {
    local before status began i
    before=$(checkpoint)
    long >"$folder/out" 2>&1 &
    local id=$!
    for ((i = 0; i < 1800 && $(checkpoint | grep -cvxF "$before") == 0; i++)); do sleep 0.1; done
    began=$SECONDS
    "$@"
    for ((i = 0; i < 600; i++)); do
        kill -0 $id 2>/dev/null || break
        sleep 0.1
    done
    kill -0 $id 2>/dev/null && { fall a; echo "runs still after 60 s"; }
    wait $id
    status=$?
    {
        echo "    status $status after $((SECONDS - began)) s, behind $(basename "$(checkpoint)"):"
        grep . "$folder/out" | sed 's/^/        /'
    } | tee "$folder/lost"
    [ $i -lt 600 ] && [ $status != 0 ] && [ ! -d "$folder/long/model" ]
}

pull() {
    ip -n mixt-a link set cable down
}

repair() {
    ip -n mixt-a link set cable up && fall b && rise b
}

goes_on() {
    local times=0
    until long >"$folder/out" 2>&1; do
        [ $((times += 1)) -lt 3 ] || { cat "$folder/out"; return 1; }
    done
    grep -i resum "$folder/out"
    same_model "$folder/long" "$folder/long-one"
}

# Each rank on a core, as its number is.
time_steps() {
    local launcher
    launcher="$(echo "$mpi" | tr '\n' ' ') ${MPI_OPTIONS-} -x MIXT_TRANSPORT -n {ranks}
        sh -c 'exec ${EACH-} taskset -c \$OMPI_COMM_WORLD_RANK \"\$@\"' sh"
    on a "$here/ranks.py" apart --launcher "$launcher" --pinned "$launcher" --rounds "$rounds" --network "$rate" \
        --delay "$delay" --wrap "${WRAP-}" --label="${LABEL-}"
}

make_machines || { echo "two machines: this needs root, namespaces, sshd"; end; exit 1; }
trap end EXIT
if [ -n "$speed" ]; then
    time_steps
    exit
fi
check "a rank on each" hosts
check "one machine trains" make_text
check "2 x 1" trains 2 2
check "1 x 2" trains 2 1
check "2 x 2" trains 4 2
check "1 x 4" trains 4 1
check "run over 2" runs 2
check "run over 4" runs 4
check "one rank trains for long" long_alone
check "a machine dies" lose fall b
cat "$folder/lost"
check "its sshd is back" rise b
check "a cable is pulled" lose pull
cat "$folder/lost"
check "it is put in again" repair
check "the same command goes on, to the same bits" goes_on
verdict
