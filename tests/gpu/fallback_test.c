/* What DET_DEVICE_AUTO makes of a device that fails while a context is made, on the fake device. */
#include "../api/api.h"
#include "fake_cuda.h"

static int32_t device_of(const det_model *model) {
    det_context_options options;
    det_context_options_init(&options);
    det_context_info info = {.struct_size = sizeof info};
    det_context *context = create(model, &options);
    OK(det_context_get_info(context, &info));
    det_context_destroy(context);
    return info.device;
}

/* The warm-up of a module that has no code for this device is told so. Other failures end there too. */
static void test_fallback(const det_model *model, int error) {
    fake_cuda_fail("cudaMemsetAsync", 1, error);
    CHECK(device_of(model) == DET_DEVICE_CPU && fake_cuda_failed());
}

static void test_out_of_memory(const det_model *model) {
    det_context_options options;
    det_context *context;
    det_context_options_init(&options);
    fake_cuda_fail("cudaMalloc", 1, cudaErrorMemoryAllocation);
    EXPECT(det_context_create(model, &options, &context), DET_ERROR_OUT_OF_MEMORY, "cudaMalloc");
}

static void test_other_uuid(const det_model *model) {
    det_context_options options;
    det_context *context;
    det_context_options_init(&options);
    options.device_uuid = "GPU-00000000-0000-0000-0000-00000000beef";
    EXPECT(det_context_create(model, &options, &context), DET_ERROR_NO_DEVICE, "UUID");
}

int main(void) {
    det_model *model = open_made(make_model_name(0));
    CHECK(device_of(model) == DET_DEVICE_CUDA);
    test_fallback(model, cudaErrorNoKernelImageForDevice);
    test_fallback(model, cudaErrorNotSupported);
    CHECK(device_of(model) == DET_DEVICE_CUDA);
    test_out_of_memory(model);
    test_other_uuid(model);
    det_model_close(model);
    return check_report("fallback");
}
