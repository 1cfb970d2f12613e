/* What a run of few pictures costs in a context for many, on the fake device, which counts the products of the libraries. */
#include "../api/api.h"
#include "fake_cuda.h"

enum { MOST = 6, REFUSED = 15 /* CUBLAS_STATUS_NOT_SUPPORTED */ };

static det_image pictures[MOST];

static det_context *open_context(const det_model *model, uint32_t flags) {
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CUDA;
    options.max_batch = MOST;
    options.flags = flags;
    return create(model, &options);
}

/* Of a run of the first n pictures. */
static int64_t products_of(det_context *context, int n, results *r) {
    int64_t before = fake_cuda_now().products;
    run(context, pictures, n, r);
    return fake_cuda_now().products - before;
}

/* A run of n pictures must cost those of sizes[n - 1]; and give the bytes that the whole batch gives. */
static void check_costs(const det_model *model, uint32_t flags, const int sizes[MOST]) {
    static results whole, r;
    det_context *context = open_context(model, flags);
    int64_t most = products_of(context, MOST, &whole);
    CHECK(most > 0 && whole.counts[0] > 0);
    for (int n = 1; n <= MOST; n++) {
        int64_t products = products_of(context, n, &r);
        CHECK_MSG(products * MOST == most * sizes[n - 1], "%d pictures: %lld products, %d: %lld", n,
                  (long long)products, MOST, (long long)most);
        for (int i = 0; i < n; i++)
            CHECK(same_objects(&whole, i, &r, i));
    }
    det_context_destroy(context);
}

/* Where a library does not do one convolution for a batch size, the next larger one is taken. */
static void test_refused(const det_model *model) {
    static const int without_1[MOST] = {2, 2, 4, 4, MOST, MOST}, without_2[MOST] = {1, 4, 4, 4, MOST, MOST};
    fake_cuda_fail("cublasLtMatmulAlgoCheck", 1, REFUSED);
    check_costs(model, 0, without_1);
    CHECK(fake_cuda_failed());
    fake_cuda_fail("cublasLtMatmulAlgoCheck", 5,
                   REFUSED); /* sizes 1, 2, 4 of the first product, 1 and 2 of the second */
    check_costs(model, 0, without_2);
    CHECK(fake_cuda_failed());
}

int main(void) {
    static const int sizes[MOST] = {1, 2, 4, 4, MOST, MOST};
    for (int i = 0; i < MOST; i++)
        pictures[i] = random_picture(60 + i, 70, DET_RGB8, i);
    det_model *model = open_made(make_model_name(0));
    check_costs(model, 0, sizes);
    check_costs(model, DET_CONTEXT_NO_GRAPH, sizes);
    test_refused(model);
    det_model_close(model);
    for (int i = 0; i < MOST; i++)
        free_picture(&pictures[i]);
    return check_report("batch sizes");
}
