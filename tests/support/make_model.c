#include "make_model.h"

#include "check.h"
#include "libdetect/detect.h"
#include "random.h"

#include <math.h>
#include <stdbool.h>

/* ------------------------------------------------------------------------------------------------------- recipes */

typedef struct recipe {
    const char *name, *family, *variant;
    const char *resize;
    double pad, mean, scale, score;
    int n_classes, n_landmarks;
    bool multi_label;
    int width, inner_width; /* channels where the network leaves them to the checkpoint; inner: of blocks "....m.<i>" */
    const char *optional[9]; /* tensors that the network takes when they are there, but does not ask for; NULL ends */
} recipe;

#define FACES .resize = "letterbox-top", .mean = 127.5, .scale = 1 / 128.0, .score = 0.5, .n_classes = 1
#define YOLO .resize = "letterbox-centre", .pad = 114, .scale = 1 / 255.0, .score = 0.25, .n_classes = 3
#define DAMO .resize = "stretch", .scale = 1 / 64.0, .score = 0.5, .n_classes = 3, .multi_label = true, .width = 8

static const recipe recipes[] = {
    {"damofd-0.5g", "damofd", "0.5g", FACES},
    {"damofd-0.5g-kps", "damofd", "0.5g-kps", FACES, .n_landmarks = 5},
    {"damofd-2.5g-kps", "damofd", "2.5g-kps", FACES, .n_landmarks = 5},
    {"scrfd-500m-kps", "scrfd", "500m-kps", FACES, .n_landmarks = 5},
    {"scrfd-2.5g-kps", "scrfd", "2.5g-kps", FACES, .n_landmarks = 5},
    {"yolov5-least", "yolov5", "custom", YOLO, .width = 1, .inner_width = 1},
    {"yolov5-tiny", "yolov5", "custom", YOLO, .width = 8, .inner_width = 8, .optional = {"model.2.m.0.cv1.weight"}},
    {"yolov8-tiny", "yolov8", "custom", YOLO, .width = 8, .inner_width = 4, .optional = {"model.2.m.0.cv1.weight"}},
    {"yolo11-tiny", "yolo11", "custom", YOLO, .width = 8, .inner_width = 4,
     .optional = {"model.2.m.0.cv1.weight", "model.6.m.0.cv1.weight", "model.6.m.0.cv3.weight",
                  "model.6.m.0.m.0.cv1.weight", "model.10.m.0.attn.qkv.weight"}},
    {"damo-yolo-mobile-tiny", "damo-yolo", "custom", DAMO,
     .optional = {"backbone.block_list.1.block_list.0.conv.0.weight", "backbone.block_list.2.block_list.0.conv.0.weight",
                  "backbone.block_list.3.block_list.0.conv.0.weight", "backbone.block_list.4.block_list.0.conv.0.weight",
                  "backbone.block_list.5.block_list.0.conv.0.weight", "backbone.block_list.5.block_list.1.conv1.weight",
                  "neck.merge_3.convs.0.conv.conv.0.weight"}},
    {"damo-yolo-residual-tiny", "damo-yolo", "custom", DAMO,
     .optional = {"backbone.block_list.1.block_list.0.conv1.weight", "backbone.block_list.2.block_list.0.conv1.weight",
                  "backbone.block_list.3.block_list.0.conv1.weight", "backbone.block_list.4.block_list.0.conv1.weight",
                  "backbone.block_list.5.block_list.0.conv1.weight", "backbone.block_list.5.block_list.1.conv1.weight",
                  "neck.merge_3.convs.0.conv2.weight"}},
    {"damo-yolo-csp-tiny", "damo-yolo", "custom", DAMO,
     .optional = {"backbone.csp_stage.0.conv.weight", "backbone.csp_stage.1.convstem.0.conv1.weight",
                  "backbone.csp_stage.4.spp.conv1.weight", "neck.merge_3.convs.0.conv2.weight"}},
};

enum { N_RECIPES = sizeof recipes / sizeof recipes[0], INPUT_SIDE = 64 };

const char *make_model_name(int index) {
    return index >= 0 && index < N_RECIPES ? recipes[index].name : NULL;
}

static const recipe *find_recipe(const char *name) {
    for (int i = 0; i < N_RECIPES; i++) {
        if (!strcmp(name, recipes[i].name))
            return &recipes[i];
    }
    REQUIRE(false, "no model is called %s", name);
    return NULL;
}

text make_metadata(const char *name) {
    const recipe *r = find_recipe(name);
    text t = {0};
    text_add(&t, "{\"format\":1,\"family\":\"%s\",\"variant\":\"%s\",\"input\":[%d,%d]", r->family, r->variant, INPUT_SIDE,
             INPUT_SIDE);
    text_add(&t, ",\"resize\":\"%s\",\"pad\":%.9g,\"mean\":%.9g,\"scale\":%.9g", r->resize, r->pad, r->mean, r->scale);
    text_add(&t, ",\"score\":%.9g,\"iou\":0.5,\"multi_label\":%s,\"max_objects\":100,\"landmarks\":%d",
             r->score, r->multi_label ? "true" : "false", r->n_landmarks);
    text_add(&t, ",\"licence\":\"none\",\"source\":\"%s\",\"source_sha256\":\"\",\"classes\":[", r->name);
    for (int i = 0; i < r->n_classes; i++)
        text_add(&t, "%s\"class %d\"", i ? "," : "", i);
    text_add(&t, "]}");
    return t;
}

/* ------------------------------------------------------------------------------------------------ asking the library */

enum { MAX_TENSORS = 1024, MAX_ROUNDS = 4 * MAX_TENSORS };

typedef struct learner {
    const recipe *recipe;
    int n;
    model_tensor tensors[MAX_TENSORS];
} learner;

/* The tensor of that name, which begins as one number. */
static model_tensor *tensor_named(learner *l, const char *name, size_t n_chars) {
    for (int i = 0; i < l->n; i++) {
        if (strlen(l->tensors[i].name) == n_chars && !strncmp(l->tensors[i].name, name, n_chars))
            return &l->tensors[i];
    }
    REQUIRE(l->n < MAX_TENSORS && n_chars < sizeof l->tensors[0].name, "%.*s", (int)n_chars, name);
    model_tensor *t = &l->tensors[l->n++];
    memset(t, 0, sizeof *t);
    memcpy(t->name, name, n_chars);
    return t;
}

static bool ends_with(const char *s, const char *end) {
    return strlen(s) >= strlen(end) && !strcmp(s + strlen(s) - strlen(end), end);
}

/* "tensor 'NAME' has shape [..]; FAMILY VARIANT needs [A, B]" */
static bool learn_shape(learner *l, const char *message) {
    const char *name = strstr(message, "tensor '"), *shape = strstr(message, " needs [");
    if (!name || !shape || !strstr(message, "' has shape ["))
        return false;
    name += strlen("tensor '");
    model_tensor *t = tensor_named(l, name, strcspn(name, "'"));
    t->n_dims = 0;
    for (const char *at = shape + strlen(" needs ["); *at >= '0' && *at <= '9' && t->n_dims < 4;) {
        char *end;
        t->shape[t->n_dims++] = strtoll(at, &end, 10);
        at = end + strspn(end, ", ");
    }
    return true;
}

static void choose_width(const learner *l, model_tensor *t) {
    bool inner = strstr(t->name, ".m.") && !ends_with(t->name, ".attn.qkv.weight");
    t->n_dims = 1;
    t->shape[0] = inner ? l->recipe->inner_width : l->recipe->width;
}

/* "FAMILY VARIANT needs tensor 'NAME', which is missing": its output channels are ours to choose. */
static bool learn_width(learner *l, const char *message) {
    const char *name = strstr(message, " needs tensor '");
    if (!name)
        return false;
    name += strlen(" needs tensor '");
    model_tensor *t = tensor_named(l, name, strcspn(name, "'"));
    choose_width(l, t);
    return true;
}

/* "... N missing (NAME, NAME), ..." */
static bool learn_names(learner *l, const char *message) {
    const char *at = strstr(message, " missing (");
    if (!at)
        return false;
    for (at += strlen(" missing ("); *at && at[-1] != ')'; at += at[0] == ',' ? 2 : 1) {
        size_t n_chars = strcspn(at, ",)");
        tensor_named(l, at, n_chars);
        at += n_chars;
    }
    return true;
}

static det_status try_file(const bytes *file) {
    det_model *model;
    det_context *context;
    det_context_options options;
    det_context_options_init(&options);
    options.device = DET_DEVICE_CPU;
    options.width = options.height = 32;
    options.n_threads = 1;
    REQUIRE(det_model_open_memory(file->data, file->n, &model) == DET_OK, "%s", det_last_error());
    det_status status = det_context_create(model, &options, &context);
    det_context_destroy(context);
    det_model_close(model);
    return status;
}

static void learn(learner *l, const char *metadata) {
    for (const char *const *name = l->recipe->optional; *name; name++)
        choose_width(l, tensor_named(l, *name, strlen(*name)));
    for (int round = 0; round < MAX_ROUNDS; round++) {
        bytes file = model_file_of(metadata, l->tensors, l->n);
        det_status status = try_file(&file);
        bytes_free(&file);
        if (status == DET_OK)
            return;
        const char *message = det_last_error();
        REQUIRE(learn_shape(l, message) || learn_width(l, message) || learn_names(l, message), "%s", message);
    }
    REQUIRE(false, "%s: no end of questions: %s", l->recipe->name, det_last_error());
}

/* -------------------------------------------------------------------------------------------------------- weights */

/* Convolutions keep the size of what passes through them, about; the rest as it might be. */
static void fill(model_tensor *t, const char *model) {
    float low = -0.1f, high = 0.1f;
    if (t->n_dims == 4) {
        high = sqrtf(4.0f / (float)(t->shape[1] * t->shape[2] * t->shape[3]));
        low = -high;
    } else if (ends_with(t->name, ".gn.weight") || t->n_dims == 0) {
        low = 0.7f;
        high = 1.2f;
    } else if (ends_with(t->name, ".anchors")) {
        low = 1;
        high = 4;
    }
    uint64_t state = random_from(t->name) ^ random_from(model);
    t->values = malloc((size_t)model_tensor_values(t) * sizeof *t->values);
    for (int64_t i = 0; i < model_tensor_values(t); i++)
        t->values[i] = random_in(&state, low, high);
}

bytes make_model(const char *name, const char *metadata) {
    learner *l = calloc(1, sizeof *l);
    l->recipe = find_recipe(name);
    text own = make_metadata(name);
    learn(l, own.chars);
    for (int i = 0; i < l->n; i++)
        fill(&l->tensors[i], name);
    bytes file = model_file_of(metadata ? metadata : own.chars, l->tensors, l->n);
    for (int i = 0; i < l->n; i++)
        free(l->tensors[i].values);
    text_free(&own);
    free(l);
    return file;
}
