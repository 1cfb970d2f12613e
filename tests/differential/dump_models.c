/* Prints what the library reads in model files: dump_models FILE... Texts as hexadecimal digits, numbers as %.9g, values as
 * their FNV-1a hash. One line a file: ok and all of it, or the status and the message. */
#include "check.h"
#include "weights.h"

static void print_hex(const char *text) {
    for (; *text; text++)
        printf("%02x", (unsigned char)*text);
    putchar(' ');
}

static uint64_t hash_values(const det_weight *w) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < w->n_values; i++) {
        uint32_t bits;
        memcpy(&bits, &w->values[i], sizeof bits);
        for (int k = 0; k < 4; k++)
            hash = (hash ^ (bits >> 8 * k & 255)) * 0x100000001b3u;
    }
    return hash;
}

static void print_weights(const det_weights *w) {
    const det_model_info *m = &w->info;
    printf("ok ");
    print_hex(m->family);
    print_hex(m->variant);
    print_hex(m->source);
    printf("%d %d %d %.9g %.9g %.9g %.9g %.9g %d %d %d ", m->input_width, m->input_height, m->resize, (double)m->pad_value, (double)m->mean,
           (double)m->scale, (double)m->score_threshold, (double)m->iou_threshold, m->multi_label, m->max_objects, m->n_landmarks);
    for (int i = 0; i < m->n_classes; i++)
        print_hex(m->class_names[i]);
    for (int i = 0; i < w->n_tensors; i++) {
        const det_weight *t = &w->tensors[i];
        char shape[64];
        print_hex(t->name);
        printf("%s %016llx ", det_shape_text(t->shape, t->n_dims, shape), (unsigned long long)hash_values(t));
    }
    putchar('\n');
}

int main(int argc, char **argv) {
    static uint8_t data[1 << 20];
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        REQUIRE(file, "%s", argv[i]);
        size_t n = fread(data, 1, sizeof data, file);
        fclose(file);
        det_weights weights = {0};
        det_status status = det_weights_read(data, n, &weights);
        if (status == DET_OK)
            print_weights(&weights);
        else
            printf("%s %s\n", det_status_name(status), det_last_error());
        det_weights_close(&weights);
    }
    return 0;
}
