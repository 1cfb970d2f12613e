/* 1x1 convolutions as products through cublasLt: y [n h w, c_out] = x [n h w, c_in] times weight [c_out, c_in] turned over,
 * with bias and ReLU in its epilogue. cublasLt thinks in columns: a matrix of rows of ours is its transpose, so it
 * computes y' = weight x'. */
#include "cuda.h"

#include <stdint.h>

enum { WORKSPACE_BYTES = 32 << 20 };

struct det_lt_conv {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t weight, x, y;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
    bool has_bias;
};

static cudaDataType_t data_type(det_type type) {
    return type == DET_TYPE_F16 ? CUDA_R_16F : type == DET_TYPE_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

void det_lt_conv_free(det_lt_conv *conv) {
    if (!conv)
        return;
    if (conv->product)
        cublasLtMatmulDescDestroy(conv->product);
    cublasLtMatrixLayout_t layouts[] = {conv->weight, conv->x, conv->y};
    for (size_t i = 0; i < DET_COUNT(layouts); i++) {
        if (layouts[i])
            cublasLtMatrixLayoutDestroy(layouts[i]);
    }
    det_free(conv);
}

static det_status describe(det_lt_conv *conv, const det_conv_problem *p) {
    const cublasOperation_t turned = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue =
        p->has_bias                ? p->unit == DET_UNIT_RELU ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_BIAS
        : p->unit == DET_UNIT_RELU ? CUBLASLT_EPILOGUE_RELU
                                   : CUBLASLT_EPILOGUE_DEFAULT;
    const uint64_t m = (uint64_t)p->c_out, n = (uint64_t)p->n * (uint64_t)p->h * (uint64_t)p->w, k = (uint64_t)p->c_in;
    cublasComputeType_t compute = p->tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    CUBLAS_TRY(cublasLtMatmulDescCreate(&conv->product, compute, CUDA_R_32F));
    CUBLAS_TRY(cublasLtMatmulDescSetAttribute(conv->product, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned));
    CUBLAS_TRY(
        cublasLtMatmulDescSetAttribute(conv->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue));
    /* weight [c_out][c_in] is a column-major [c_in, c_out] */
    CUBLAS_TRY(cublasLtMatrixLayoutCreate(&conv->weight, data_type(p->type), k, m, (int64_t)k));
    CUBLAS_TRY(cublasLtMatrixLayoutCreate(&conv->x, data_type(p->type), k, n, p->x_stride));
    CUBLAS_TRY(cublasLtMatrixLayoutCreate(&conv->y, data_type(p->type), m, n, p->y_stride));
    return DET_OK;
}

static det_status prefer(cublasLtMatmulPreference_t preference) {
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const size_t most = WORKSPACE_BYTES;
    const uint32_t alignment = 16;
    CUBLAS_TRY(
        cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, sizeof most));
    for (size_t i = 0; i < DET_COUNT(alignments); i++)
        CUBLAS_TRY(cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment, sizeof alignment));
    return DET_OK;
}

/* The algorithms for it, best first. */
static det_status ask(cublasLtHandle_t handle, const det_lt_conv *conv, cublasLtMatmulPreference_t preference, int most,
                      cublasLtMatmulHeuristicResult_t *results, int *n) {
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, conv->product, conv->weight, conv->x, conv->y,
                                                           conv->y, preference, most, results, n);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
        *n = 0;
        det_log(DET_LOG_DEBUG, "cublasLtMatmulAlgoGetHeuristic -> %s: cuDNN will be asked",
                cublasLtGetStatusName(status));
        return DET_OK;
    }
    if (status != CUBLAS_STATUS_SUCCESS)
        return det_cublas_fail(status, "cublasLtMatmulAlgoGetHeuristic", __FILE__, __LINE__);
    return DET_OK;
}

static det_status find_algorithms(cublasLtHandle_t handle, const det_lt_conv *conv, int most,
                                  cublasLtMatmulHeuristicResult_t *results, int *n) {
    cublasLtMatmulPreference_t preference;
    CUBLAS_TRY(cublasLtMatmulPreferenceCreate(&preference));
    det_status status = prefer(preference);
    if (status == DET_OK)
        status = ask(handle, conv, preference, most, results, n);
    cublasLtMatmulPreferenceDestroy(preference);
    return status;
}

/* *fits: whether the algorithm of another batch does for this one, too. */
static det_status copy_choice(cublasLtHandle_t handle, det_lt_conv *conv, const det_lt_conv *like, bool *fits) {
    cublasLtMatmulHeuristicResult_t result;
    conv->algorithm = like->algorithm;
    cublasStatus_t status = cublasLtMatmulAlgoCheck(handle, conv->product, conv->weight, conv->x, conv->y, conv->y,
                                                    &conv->algorithm, &result);
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
        det_log(DET_LOG_DEBUG, "cublasLtMatmulAlgoCheck -> %s", cublasLtGetStatusName(status));
        return DET_OK;
    }
    if (status != CUBLAS_STATUS_SUCCESS)
        return det_cublas_fail(status, "cublasLtMatmulAlgoCheck", __FILE__, __LINE__);
    *fits = result.workspaceSize <= WORKSPACE_BYTES;
    conv->workspace_bytes = result.workspaceSize;
    return DET_OK;
}

static det_status make(const det_conv_problem *problem, det_lt_conv **out) {
    det_lt_conv *conv = det_alloc_array(1, sizeof *conv);
    if (!conv)
        return DET_ERROR_OUT_OF_MEMORY;
    conv->has_bias = problem->has_bias;
    det_status status = describe(conv, problem);
    if (status == DET_OK)
        *out = conv;
    else
        det_lt_conv_free(conv);
    return status;
}

/* The first is `conv` itself. */
static det_status keep(det_lt_conv *conv, const det_conv_problem *problem,
                       const cublasLtMatmulHeuristicResult_t *results, int n_results, det_lt_conv **convs, int *n) {
    for (int i = 0; i < n_results; i++) {
        if (i > 0)
            DET_TRY(make(problem, &conv));
        conv->algorithm = results[i].algo;
        conv->workspace_bytes = results[i].workspaceSize;
        convs[(*n)++] = conv;
    }
    return DET_OK;
}

det_status det_lt_conv_find(cublasLtHandle_t handle, const det_conv_problem *problem, int most, det_lt_conv **convs,
                            int *n) {
    cublasLtMatmulHeuristicResult_t results[DET_MAX_TRIED];
    det_lt_conv *conv;
    int n_results = 0;
    *n = 0;
    DET_TRY(make(problem, &conv));
    det_status status = find_algorithms(handle, conv, most, results, &n_results);
    if (status == DET_OK)
        status = keep(conv, problem, results, n_results, convs, n);
    if (*n == 0)
        det_lt_conv_free(conv);
    while (status != DET_OK && *n > 0)
        det_lt_conv_free(convs[--*n]);
    return status;
}

det_status det_lt_conv_follow(cublasLtHandle_t handle, const det_conv_problem *problem, const det_lt_conv *like,
                              det_lt_conv **out) {
    det_lt_conv *conv;
    bool fits = false;
    *out = NULL;
    DET_TRY(make(problem, &conv));
    det_status status = copy_choice(handle, conv, like, &fits);
    if (status == DET_OK && fits)
        *out = conv;
    else
        det_lt_conv_free(conv);
    return status;
}

size_t det_lt_conv_workspace(const det_lt_conv *conv) {
    return conv->workspace_bytes;
}

det_status det_lt_conv_run(const det_lt_conv *conv, cublasLtHandle_t handle, const det_conv_data *data,
                           cudaStream_t stream) {
    const float one = 1, zero = 0;
    if (conv->has_bias)
        CUBLAS_TRY(cublasLtMatmulDescSetAttribute(conv->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &data->bias,
                                                  sizeof data->bias));
    CUBLAS_TRY(cublasLtMatmul(handle, conv->product, &one, data->weight, conv->weight, data->x, conv->x, &zero, data->y,
                              conv->y, data->y, conv->y, &conv->algorithm, data->workspace, conv->workspace_bytes,
                              stream));
    return DET_OK;
}
