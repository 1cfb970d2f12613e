/* cublasLt: D = epilogue(alpha * op(A) op(B) + beta * C), column-major, as libdetect uses it: op(A) transposed, no
 * C. */
#include "convolution.h"

#include <cstring>
#include <deque>
#include <set>
#include <utility>

#include <cublasLt.h>

namespace fake {
namespace {

struct Lt {
    int device;
};

struct Product {
    cublasComputeType_t compute;
    cudaDataType scale;
    cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    const void *bias = nullptr;
};

struct Layout {
    cudaDataType type;
    int64_t rows, columns, ld;
};

struct Preference {
    uint64_t workspace = 0;
    uint32_t alignments[4] = {256, 256, 256, 256}; /* a, b, c, d: what holds when nothing is said */
};

/* What heuristics have chosen; cublasLtMatmulAlgo_t carries a mark and its number. */
struct Algorithm {
    int64_t m, n, k, lda, ldb, ldd;
    uint32_t type, epilogue, workspace, alignments[4];
    int32_t tf32, split;
};
enum : uint64_t { MARK = 0x6c74616c676f0001 };

std::deque<Algorithm> &algorithms() {
    static auto *a = new std::deque<Algorithm>;
    return *a;
}

void put(cublasLtMatmulAlgo_t *to, const Algorithm &algorithm) {
    to->data[0] = MARK;
    to->data[1] = algorithms().size();
    algorithms().push_back(algorithm);
}

const Algorithm *get(const cublasLtMatmulAlgo_t *from) {
    return from->data[0] == MARK && from->data[1] < algorithms().size() ? &algorithms()[from->data[1]] : nullptr;
}

/* Which algorithms have been checked for how many columns, beside those that they were chosen for. */
std::set<std::pair<const Algorithm *, int64_t>> &checked() {
    static auto *c = new std::set<std::pair<const Algorithm *, int64_t>>;
    return *c;
}

template <class T> std::set<T *> &live() {
    static auto *s = new std::set<T *>;
    return *s;
}

template <class T, class H> cublasStatus_t make(T *made, H *handle, int64_t &count) {
    live<T>().insert(made);
    count++;
    *handle = (H)made;
    return CUBLAS_STATUS_SUCCESS;
}

template <class T> cublasStatus_t destroy(const Call &call, const void *handle, int64_t &count) {
    T *made = (T *)(uintptr_t)handle;
    if (!live<T>().erase(made)) {
        violation("%s: %p is nothing of this kind", call.function, handle);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    delete made;
    count--;
    return (cublasStatus_t)call.planned;
}

template <class T> T *check(const void *handle) {
    return live<T>().count((T *)(uintptr_t)handle) ? (T *)(uintptr_t)handle : nullptr;
}

template <class T> cublasStatus_t take(T &to, const void *from, size_t n_bytes) {
    if (!from || n_bytes != sizeof to)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&to, from, sizeof to);
    return CUBLAS_STATUS_SUCCESS;
}

bool has_bias(cublasLtEpilogue_t e) {
    return e == CUBLASLT_EPILOGUE_BIAS || e == CUBLASLT_EPILOGUE_RELU_BIAS;
}

bool has_relu(cublasLtEpilogue_t e) {
    return e == CUBLASLT_EPILOGUE_RELU || e == CUBLASLT_EPILOGUE_RELU_BIAS;
}

bool layout_fits(const Layout &l) {
    return l.ld >= l.rows && (l.type == CUDA_R_32F || l.type == CUDA_R_16F || l.type == CUDA_R_16BF);
}

/* A [k, m] transposed, B [k, n], D [m, n]. */
bool shapes_fit(const Product &p, const Layout &a, const Layout &b, const Layout &d) {
    return p.a == CUBLAS_OP_T && p.b == CUBLAS_OP_N && a.rows == b.rows && d.rows == a.columns &&
           d.columns == b.columns && layout_fits(a) && layout_fits(b) && layout_fits(d) && a.type == b.type &&
           a.type == d.type;
}

Algorithm algorithm_of(const Product &p, const Layout &a, const Layout &b, const Layout &d,
                       const Preference &preference) {
    Algorithm algorithm = {};
    algorithm.m = d.rows;
    algorithm.n = d.columns;
    algorithm.k = a.rows;
    algorithm.lda = a.ld;
    algorithm.ldb = b.ld;
    algorithm.ldd = d.ld;
    algorithm.type = a.type;
    algorithm.epilogue = p.epilogue;
    algorithm.workspace = preference.workspace >= 4112 ? 4112 : 0;
    memcpy(algorithm.alignments, preference.alignments, sizeof algorithm.alignments);
    algorithm.split = (int32_t)split_for(d.columns);
    algorithm.tf32 = p.compute == CUBLAS_COMPUTE_32F_FAST_TF32 && a.type == CUDA_R_32F;
    return algorithm;
}

/* [n, 1, 1, k] x [m, 1, 1, k] -> [n, 1, 1, m]: a product is a convolution of single pixels. */
Convolution convolution_of(const Algorithm &a) {
    auto type = (cudaDataType)a.type;
    Convolution c = {};
    c.x = {type, 1, 1, a.n, a.k, a.n * a.ldb, a.n * a.ldb, a.ldb};
    c.w = {type, a.m, 1, 1, a.k, a.lda, a.lda, a.lda};
    c.y = {type, 1, 1, a.n, a.m, a.n * a.ldd, a.n * a.ldd, a.ldd};
    c.stride_h = c.stride_w = 1;
    c.tf32 = a.tf32;
    c.split = a.split;
    return c;
}

void multiply(const Algorithm &a, const void *weight, const void *x, const void *bias, void *y) {
    Convolution c = convolution_of(a);
    std::vector<float> values((size_t)(a.m * a.n));
    convolve(c, x, weight, values.data());
    for (int64_t i = 0; i < a.n; i++)
        for (int64_t j = 0; j < a.m; j++) {
            float value = values[(size_t)(i * a.m + j)];
            if (has_bias((cublasLtEpilogue_t)a.epilogue))
                value += load((cudaDataType)a.type, bias, j);
            if (has_relu((cublasLtEpilogue_t)a.epilogue))
                value = value > 0 ? value : value == value ? 0 : value;
            store((cudaDataType)a.type, y, i * a.ldd + j, value);
        }
}

bool places_good(const Algorithm &a, const void *weight, const void *x, const Product &p, void *y, void *workspace,
                 int device) {
    Convolution c = convolution_of(a);
    bool good = on_device(weight, c.w.n_bytes(), device, a.alignments[0], "cublasLtMatmul: A") &&
                on_device(x, c.x.n_bytes(), device, a.alignments[1], "cublasLtMatmul: B") &&
                on_device(y, c.y.n_bytes(), device, a.alignments[3], "cublasLtMatmul: D");
    if (good && has_bias(p.epilogue))
        good = on_device(p.bias, (size_t)a.m * type_bytes((cudaDataType)a.type), device, 16, "cublasLtMatmul: bias");
    if (good && a.workspace)
        good = on_device(workspace, a.workspace, device, 16, "cublasLtMatmul: the workspace");
    if (good && overlap(c.y, y, c.x, x)) {
        violation("cublasLtMatmul: the result lies over an input");
        return false;
    }
    return good;
}

/* The algorithm for this product: what was chosen, for so many columns. */
Algorithm fitted(const Algorithm &chosen, const Product &p, const Layout &a, const Layout &b, const Layout &d) {
    Preference as_found;
    memcpy(as_found.alignments, chosen.alignments, sizeof as_found.alignments);
    Algorithm fitting = algorithm_of(p, a, b, d, as_found);
    fitting.workspace = chosen.workspace;
    fitting.split = chosen.split;
    return fitting;
}

/* But for the columns. */
bool same_product(Algorithm a, const Algorithm &b) {
    a.n = b.n;
    return memcmp(&a, &b, sizeof a) == 0;
}

} // namespace
} // namespace fake

using namespace fake;

#define CUBLAS_CALL(traits)                                                                                            \
    Call call(__func__, Library::cublas, traits);                                                                      \
    if (call.planned && !((traits)&RELEASES))                                                                          \
    return (cublasStatus_t)call.planned

const char *cublasLtGetStatusName(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS:
        return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_ALLOC_FAILED:
        return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
        return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
        return "CUBLAS_STATUS_NOT_SUPPORTED";
    case CUBLAS_STATUS_EXECUTION_FAILED:
        return "CUBLAS_STATUS_EXECUTION_FAILED";
    default:
        return "CUBLAS_STATUS_INTERNAL_ERROR";
    }
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle) {
    CUBLAS_CALL(UNSAFE);
    return make(new Lt{current_device()}, handle, counts.cublas_handles);
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    CUBLAS_CALL(UNSAFE | SPOILS | RELEASES);
    return destroy<Lt>(call, handle, counts.cublas_handles);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    CUBLAS_CALL(ANY);
    if ((compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32) || scale != CUDA_R_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    auto *made = new Product;
    made->compute = compute;
    made->scale = scale;
    return make(made, product, counts.cublas_descriptors);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product) {
    CUBLAS_CALL(RELEASES);
    return destroy<Product>(call, product, counts.cublas_descriptors);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t n_bytes) {
    CUBLAS_CALL(ANY);
    Product *p = check<Product>(product);
    if (!p)
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (name) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return take(p->a, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return take(p->b, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return take(p->epilogue, value, n_bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        return take(p->bias, value, n_bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
    CUBLAS_CALL(ANY);
    if (!layout || rows == 0 || columns == 0)
        return CUBLAS_STATUS_INVALID_VALUE;
    return make(new Layout{type, (int64_t)rows, (int64_t)columns, ld}, layout, counts.cublas_descriptors);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    CUBLAS_CALL(RELEASES);
    return destroy<Layout>(call, layout, counts.cublas_descriptors);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *preference) {
    CUBLAS_CALL(ANY);
    return make(new Preference, preference, counts.cublas_descriptors);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    CUBLAS_CALL(RELEASES);
    return destroy<Preference>(call, preference, counts.cublas_descriptors);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t n_bytes) {
    CUBLAS_CALL(ANY);
    Preference *p = check<Preference>(preference);
    if (!p)
        return CUBLAS_STATUS_INVALID_VALUE;
    switch (name) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return take(p->workspace, value, n_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return take(p->alignments[0], value, n_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return take(p->alignments[1], value, n_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return take(p->alignments[2], value, n_bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return take(p->alignments[3], value, n_bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int *n) {
    CUBLAS_CALL(ANY);
    const Product *p = check<Product>(product);
    const Layout *la = check<Layout>(a), *lb = check<Layout>(b), *lc = check<Layout>(c), *ld = check<Layout>(d);
    const Preference *wish = check<Preference>(preference);
    if (!check<Lt>(handle) || !p || !la || !lb || !lc || !ld || !wish || wanted < 1 || !results || !n)
        return CUBLAS_STATUS_INVALID_VALUE;
    *n = 0;
    if (!shapes_fit(*p, *la, *lb, *ld) || lc->rows != ld->rows || lc->columns != ld->columns)
        return CUBLAS_STATUS_INVALID_VALUE;
    /* leading dimensions that break the alignment: cublasLt finds nothing for them */
    for (const Layout *l : {la, lb, ld})
        if ((size_t)l->ld * type_bytes(l->type) % 16)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    Algorithm algorithm = algorithm_of(*p, *la, *lb, *ld, *wish);
    for (*n = 0; *n < wanted && *n < 2; ++*n) {
        memset(&results[*n], 0, sizeof results[*n]);
        put(&results[*n].algo, algorithm);
        results[*n].workspaceSize = algorithm.workspace;
        results[*n].state = CUBLAS_STATUS_SUCCESS;
        results[*n].wavesCount = 1;
        algorithm.workspace = 0;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *chosen, cublasLtMatmulHeuristicResult_t *result) {
    CUBLAS_CALL(ANY);
    const Product *p = check<Product>(product);
    const Layout *la = check<Layout>(a), *lb = check<Layout>(b), *lc = check<Layout>(c), *ld = check<Layout>(d);
    const Algorithm *found = chosen ? get(chosen) : nullptr;
    if (!check<Lt>(handle) || !p || !la || !lb || !lc || !ld || !found || !result || !shapes_fit(*p, *la, *lb, *ld))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!same_product(fitted(*found, *p, *la, *lb, *ld), *found))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    checked().insert({found, ld->columns});
    result->workspaceSize = found->workspace;
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t a_layout, const void *b, cublasLtMatrixLayout_t b_layout,
                              const void *beta, const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *chosen, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    CUBLAS_CALL(ANY);
    const Lt *lt = check<Lt>(handle);
    const Product *p = check<Product>(product);
    const Layout *la = check<Layout>(a_layout), *lb = check<Layout>(b_layout), *ld = check<Layout>(d_layout);
    if (!lt || !p || !la || !lb || !ld || !check<Layout>(c_layout) || !alpha || !beta || !c || !chosen)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (*(const float *)alpha != 1 || *(const float *)beta != 0)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (!check_stream(stream, __func__) || stream_device(stream) != lt->device)
        return CUBLAS_STATUS_INVALID_VALUE;
    const Algorithm *found = get(chosen);
    if (!found)
        return CUBLAS_STATUS_INVALID_VALUE;
    Algorithm algorithm = fitted(*found, *p, *la, *lb, *ld);
    bool known = algorithm.n == found->n || checked().count({found, algorithm.n});
    if (!shapes_fit(*p, *la, *lb, *ld) || !same_product(algorithm, *found) || !known) {
        violation("%s: the algorithm was chosen for another product", __func__);
        return CUBLAS_STATUS_INVALID_VALUE;
    }
    if (workspace_bytes < algorithm.workspace || !places_good(algorithm, a, b, *p, d, workspace, lt->device))
        return CUBLAS_STATUS_INVALID_VALUE;
    const void *bias = p->bias;
    cudaError_t error = enqueue("cublasLt", stream, [=] {
        multiply(algorithm, a, b, bias, d);
        if (algorithm.workspace)
            memset(workspace, 0xff, algorithm.workspace);
    });
    return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
