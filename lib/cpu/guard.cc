#include <exception>
#include <new>

extern "C" {
#include "guard.h"
}

extern "C" det_status det_guard(det_status (*function)(void *argument), void *argument) {
    try {
        return function(argument);
    } catch (const std::bad_alloc &) {
        return det_fail(DET_ERROR_OUT_OF_MEMORY, "oneDNN: out of host memory");
    } catch (const std::exception &e) {
        return det_fail(DET_ERROR_DEVICE, "oneDNN: %s", e.what());
    } catch (...) {
        return det_fail(DET_ERROR_DEVICE, "oneDNN: an exception of an unknown kind");
    }
}
