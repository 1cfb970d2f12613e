#!/bin/sh
# Writes down the ABI of a library with debug information: dump.sh LIBRARY OUT. With each release the result becomes
# tests/abi/libdetect-<processor>.abi; until the first, with each change of the API.
set -eu
cd "$(dirname "$0")/../.."
abidw --exported-interfaces-only --drop-private-types --headers-dir include --no-corpus-path --no-comp-dir-path \
    --no-show-locs --type-id-style hash --out-file "$2" "$1"
sed -i "s|path='[^']*lib/|path='lib/|" "$2" # wherever it was built
