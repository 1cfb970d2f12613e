// The public header is enough by itself, as C++11, and its functions link.
#include "libdetect/detect.h"

int main() {
    det_thresholds thresholds;
    det_thresholds_init(&thresholds);
    return thresholds.struct_size == sizeof thresholds && det_version() ? 0 : 1;
}
