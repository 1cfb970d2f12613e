/* Two copies of libdetect in one process, one of them in a plugin, beside functions with the names of jansson's and
 * libpng's that nobody but this program may call:
 *
 *     clash PLUGIN MODEL
 *
 * Compiled with -DPLUGIN it is the plugin. */
#include <libdetect/detect.h>

#include <stdio.h>

/* Opens the model and runs a grey picture through it; returns the number of objects, or -1 after a message. */
static int count_objects(const char *path) {
    static const unsigned char grey[64 * 64];
    det_model *model = NULL;
    det_context *context = NULL;
    det_object objects[10];
    int32_t n_objects = -1;
    det_image image = {.planes = {grey}, .strides = {64}, .width = 64, .height = 64, .format = DET_GRAY8};
    det_output output = {.struct_size = sizeof output, .objects = objects, .counts = &n_objects, .max_objects = 10};
    if (det_model_open(path, &model) != DET_OK || det_context_create(model, NULL, &context) != DET_OK ||
        det_run(context, &image, 1, &output) != DET_OK)
        fprintf(stderr, "clash: %s\n", det_last_error());
    det_context_destroy(context);
    det_model_close(model);
    return n_objects;
}

#ifdef PLUGIN

int plugin_count_objects(const char *path);

int plugin_count_objects(const char *path) {
    return count_objects(path);
}

#else

#include <dlfcn.h>
#include <stdlib.h>

#define OURS(name)                                                                                                     \
    void name(void);                                                                                                   \
    void name(void) {                                                                                                  \
        fputs("clash: the program's " #name " was called\n", stderr);                                                  \
        exit(1);                                                                                                       \
    }
OURS(json_loadb)
OURS(json_loads)
OURS(json_object)
OURS(json_object_get)
OURS(json_string_value)
OURS(json_delete)
OURS(hashtable_init)
OURS(png_create_read_struct)
OURS(png_read_info)

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    void *plugin = dlopen(argv[1], RTLD_NOW);
    if (plugin == NULL) {
        fprintf(stderr, "clash: %s\n", dlerror());
        return 1;
    }
    int (*count_in_plugin)(const char *);
    *(void **)&count_in_plugin = dlsym(plugin, "plugin_count_objects");
    int ours = count_objects(argv[2]), theirs = count_in_plugin(argv[2]);
    printf("%d objects here, %d in the plugin\n", ours, theirs);
    return ours < 0 || ours != theirs;
}

#endif
