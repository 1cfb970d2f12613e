/* The public header is enough by itself, as C11. */
#include "libdetect/detect.h"

int main(void) {
    det_context_options options;
    det_context_options_init(&options);
    return options.struct_size == sizeof options && det_status_name(DET_OK) ? 0 : 1;
}
