#!/bin/sh
# Reads the symbols of the library: symbols.sh LIBRARY MAP [OBJECT...]
#
# It exports what the map lists and nothing else; it calls nothing that ends or reconfigures the host's process or
# writes to its terminal; and but for the log and the allocator's hooks (status.c) its objects have no mutable globals.
set -eu
export LC_ALL=C
library=$1 map=$2
shift 2
failed=0

exported=$(nm -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort)
wanted=$(sed -n 's/^ *\(det_[a-z_]*\);$/\1/p' "$map" | sort)
if [ "$exported" != "$wanted" ]; then
    echo "symbols: exported and listed in the map differ:"
    printf '%s\n' "$exported" "$wanted" | sort | uniq -u
    failed=1
fi

called=$(nm -D --undefined-only "$library" | awk '{ sub(/@.*/, "", $NF); print $NF }')
for function in exit _exit _Exit quick_exit abort atexit __assert_fail printf vprintf fprintf vfprintf puts putchar fputs \
    perror __printf_chk __vprintf_chk __fprintf_chk __vfprintf_chk stdout stderr setlocale signal sigaction raise kill fork \
    system popen setenv putenv srand rand strtok localtime asctime; do
    if echo "$called" | grep -qx "$function"; then
        echo "symbols: the library uses $function"
        failed=1
    fi
done

# Writable data and zeroes; not thread-local ones, nor the references that exceptions in C++ need.
for object in "$@"; do
    globals=$(objdump -t "$object" | awk '{ section = ""; for (i = 2; i < NF; i++) if ($i == "O") section = $(i + 1) }
        section ~ /^\.(data|bss)/ && section !~ /^\.data\.rel\.ro/ && $NF !~ /^DW\.ref\./ { print $NF }')
    case $object in
    */status.c.o) globals=$(echo "$globals" | grep -vx -e log_callback -e log_level -e log_user -e hooks || true) ;;
    esac
    if [ -n "$globals" ]; then
        echo "symbols: $object has mutable globals:" $globals
        failed=1
    fi
done

[ $failed = 0 ] && echo "symbols: $(echo "$wanted" | wc -l) exported, $# objects"
exit $failed
