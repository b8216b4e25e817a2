#!/usr/bin/env bash
# Builds tests/native/check_kernels.cpp with another compiler and runs it, under an emulator where one is named:
#   check_kernels.sh COMPILER [EMULATOR ...]
set -euo pipefail
cd "$(dirname "$0")/.."
compiler=$1
shift
for tool in "$compiler" ${1:+"$1"}; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install g++-aarch64-linux-gnu qemu-user" >&2; exit 1; }
done
out=build/check-$compiler
native=src/shortlist/native
mkdir -p "$out"
sources=($native/formats/*.cpp $native/kernels/*.cpp $native/pool/*.cpp $native/sites/{channels,codes}.cpp $native/blocks/linear.cpp tests/native/check_kernels.cpp)
compile() {
  local flags=()
  case $1 in
    *kernels_neon.cpp) flags=(-march=armv8.2-a+dotprod) ;;
    *kernels_avx2.cpp) flags=(-mavx2 -mfma -mf16c) ;;
    *kernels_avx512.cpp) flags=(-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx2 -mfma -mf16c) ;;
  esac
  case $1:$("$compiler" -dumpmachine) in *_neon.cpp:x86*|*_avx*:aarch64*) flags=() ;; esac
  "$compiler" -std=c++17 -O1 -Wall -Wextra -I$native "${flags[@]}" -c "$1" -o "$out/$(basename "$1").o"
}
export -f compile
export compiler native out
printf '%s\n' "${sources[@]}" | xargs -P "$(nproc)" -I{} bash -c 'compile {}'
"$compiler" -static -pthread "$out"/*.o -o "$out/check_kernels"
"$@" "$out/check_kernels"
