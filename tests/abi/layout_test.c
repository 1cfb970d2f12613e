/* Sizes, alignments and offsets of the public structs, on every platform that has pointers of eight bytes, and the values of
 * constants. */
#include <libdetect/detect.h>

#include <stdio.h>

_Static_assert(sizeof(void *) == 8, "detect.h promises its layouts for pointers of eight bytes");
_Static_assert(sizeof(det_status) == 4 && sizeof(det_stream) == 8, "scalars");

#define STRUCT(name, size, alignment)                                                                                  \
    _Static_assert(sizeof(name) == (size) && _Alignof(name) == (alignment), "layout of " #name);
#define FIELD(name, field, offset, size)                                                                               \
    _Static_assert(offsetof(name, field) == (offset) && sizeof(((name *)0)->field) == (size), "place of " #field);
#define CONSTANT(name, value) _Static_assert(name == (value), "value of " #name);
#include "layout.def"
#undef STRUCT
#undef FIELD
#undef CONSTANT

#define STRUCT(...) 1 +
#define FIELD(...)
#define CONSTANT(...)
enum {
    N_STRUCTS =
#include "layout.def"
        0
};

int main(void) {
    printf("layout: %d structs\n", N_STRUCTS);
    return 0;
}
