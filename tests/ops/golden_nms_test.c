/* NMS against the reference: the kept indices, in order, for every case and threshold. The classes are the files': boxes
 * of different classes do not suppress each other. */
#include "golden.h"

#include "cpu/candidates.h"
#include "random.h"

static tensor find(const tensor_file *file, const char *name, const char *part) {
    tensor t = tensor_find(file, det_name("%s.%s", name, part).text);
    REQUIRE(t.values, "no %s.%s", name, part);
    return t;
}

/* The candidates of a case, offered in random order. */
static det_candidate_list *read_case(const tensor_file *file, const char *name) {
    tensor boxes = find(file, name, "boxes"), scores = find(file, name, "scores"), classes = find(file, name, "classes");
    int n = (int)scores.n_values, *order = malloc((size_t)n * sizeof *order);
    det_candidate_list *list = calloc(1, sizeof *list + (size_t)n * sizeof list->items[0]);
    uint64_t state = random_from(name);
    for (int i = 0; i < n; i++) {
        int j = random_below(&state, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int i = 0; i < n; i++) {
        int k = order[i];
        const float *b = boxes.values + 4 * k;
        det_candidates_offer(list, n, &(det_candidate){.x1 = b[0], .y1 = b[1], .x2 = b[2], .y2 = b[3],
                                                       .score = scores.values[k],
                                                       .class_id = (int32_t)classes.values[k], .prior = k});
    }
    free(order);
    return list;
}

static void test_case(const tensor_file *file, const char *name) {
    static const int percent[] = {40, 45, 70};
    det_candidate_list *list = read_case(file, name);
    int *kept = malloc((size_t)list->n * sizeof *kept);
    det_candidates_sort(list);
    for (size_t i = 0; i < DET_COUNT(percent); i++) {
        tensor keep = find(file, name, det_name("keep.%d", percent[i]).text);
        bool more;
        int n = det_candidates_nms(list, (float)percent[i] / 100, false, list->n, kept, &more);
        CHECK_MSG(n == keep.n_values, "%s, IoU 0.%d: %d kept, not %lld", name, percent[i], n, (long long)keep.n_values);
        for (int j = 0; j < n && j < keep.n_values; j++)
            CHECK_MSG(list->items[kept[j]].prior == (int)keep.values[j], "%s, IoU 0.%d: object %d is %d, not %g", name,
                      percent[i], j, list->items[kept[j]].prior, (double)keep.values[j]);
    }
    free(kept);
    free(list);
}

int main(void) {
    static const char *const cases[] = {"small", "dense", "multi", "ties", "one"};
    tensor_file file = tensor_file_open(golden_path("ops/nms.safetensors").text);
    for (size_t i = 0; i < DET_COUNT(cases); i++)
        test_case(&file, cases[i]);
    tensor_file_close(&file);
    return check_report("golden_nms");
}
