/* Stands for a profiler: a library that NVTX loads when NVTX_INJECTION64_PATH names it, and that writes down the names of
 * ranges. */
#include "ranges_recorder.h"

#include <string.h>
#define NVTX_NO_IMPL
#include <nvtx3/nvToolsExt.h>

static char names[RECORDED_BYTES]; /* each behind its depth as dots, and ended by a newline */
static size_t n_bytes;
static int depth, deepest_end; /* deepest_end: below 0 when more ended than began */

static int on_push(const char *name) {
    size_t length = strlen(name);
    if (n_bytes + length + (size_t)depth + 2 < sizeof names) {
        memset(names + n_bytes, '.', (size_t)depth);
        memcpy(names + n_bytes + depth, name, length);
        n_bytes += length + (size_t)depth;
        names[n_bytes++] = '\n';
    }
    return depth++;
}

static int on_pop(void) {
    if (--depth < deepest_end)
        deepest_end = depth;
    return depth;
}

const char *recorded_ranges(int *left_open) {
    *left_open = deepest_end < 0 ? deepest_end : depth;
    return names;
}

/* What NVTX looks for. */
RECORDER_API int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
    const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
    NvtxFunctionTable table;
    unsigned int n = 0;
    if (!callbacks || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &n) ||
        n <= NVTX_CBID_CORE_RangePop)
        return 0;
    *table[NVTX_CBID_CORE_RangePushA] = (NvtxFunctionPointer)(void (*)(void))on_push;
    *table[NVTX_CBID_CORE_RangePop] = (NvtxFunctionPointer)(void (*)(void))on_pop;
    return 1;
}
