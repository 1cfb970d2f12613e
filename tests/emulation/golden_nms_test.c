/* The NMS kernel against the reference: the kept boxes, in order, for every case and threshold. The classes are the
 * files': boxes of different classes do not suppress each other. */
#include "nms_rig.h"

#include "golden.h"

static tensor find(const tensor_file *file, const char *name, const char *part) {
    tensor t = tensor_find(file, det_name("%s.%s", name, part).text);
    REQUIRE(t.values, "no %s.%s", name, part);
    return t;
}

/* The boxes of a case, best first; a box's prior, and its first landmark, tell which it is. */
static void read_case(const tensor_file *file, const char *name, nms_rig *r) {
    tensor boxes = find(file, name, "boxes"), scores = find(file, name, "scores"),
           classes = find(file, name, "classes");
    int n = (int)scores.n_values;
    nms_rig_open(r, 1, n, n);
    r->args.n_landmarks = 1;
    det_candidate_list *list = nms_rig_list(r, 0);
    list->n = list->cut = 0;
    for (int i = 0; i < n; i++) {
        const float *b = boxes.values + 4 * i;
        det_candidate c = {.x1 = b[0],
                           .y1 = b[1],
                           .x2 = b[2],
                           .y2 = b[3],
                           .score = scores.values[i],
                           .class_id = (int32_t)classes.values[i],
                           .prior = i,
                           .landmarks = {{(float)i, 0}}};
        det_candidates_offer(list, n, &c);
    }
    det_candidates_sort(list);
}

static void test_case(const tensor_file *file, const char *name) {
    static const int percent[] = {40, 45, 70};
    nms_rig r;
    read_case(file, name, &r);
    det_picture picture = {.scale_x = 1, .scale_y = 1, .width = 1, .height = 1};
    r.block.pictures = &picture;
    for (size_t i = 0; i < DET_COUNT(percent); i++) {
        tensor keep = find(file, name, det_name("keep.%d", percent[i]).text);
        r.block.iou = (float)percent[i] / 100;
        CHECK(det_launch_nms(&r.args, &r.block, NULL) == cudaSuccess);
        int n = r.block.counts[0];
        CHECK_MSG(n == keep.n_values, "%s, IoU 0.%d: %d kept, not %lld", name, percent[i], n, (long long)keep.n_values);
        for (int j = 0; j < n && j < keep.n_values; j++) {
            float index = r.block.objects[j].landmarks[0][0];
            CHECK_MSG(index == keep.values[j], "%s, IoU 0.%d: object %d is %g, not %g", name, percent[i], j,
                      (double)index, (double)keep.values[j]);
        }
    }
    nms_rig_close(&r);
}

int main(void) {
    static const char *const cases[] = {"small", "dense", "multi", "ties", "one"};
    tensor_file file = tensor_file_open(golden_path("ops/nms.safetensors").text);
    for (size_t i = 0; i < DET_COUNT(cases); i++)
        test_case(&file, cases[i]);
    tensor_file_close(&file);
    return check_report("golden_nms");
}
