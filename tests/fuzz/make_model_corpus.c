/* Writes the seeds of fuzz_model and fuzz_metadata: make_model_corpus MODEL_FOLDER METADATA_FOLDER
 *
 * Small files that open, or fail at one check each, for the fuzzer to start from; and one whole network, the narrowest
 * there is, without which it would not find its way past binding. */
#include "check.h"
#include "make_model.h"

static const struct {
    const char *file, *tensors; /* header entries behind the metadata */
    size_t data_bytes;
} seeds[] = {
    {"floats", ",\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,1,1,1],\"data_offsets\":[0,8]}", 8},
    {"halves", ",\"a.weight\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]}", 6},
    {"scalar", ",\"bbox_head.scales.0.scale\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}", 4},
    {"out-of-order", ",\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[4,6]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 6},
    {"gap", ",\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}", 12},
    {"overlap", ",\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}", 8},
    {"truncated", ",\"a\":{\"dtype\":\"F32\",\"shape\":[100],\"data_offsets\":[0,400]}", 10},
    {"five-dimensions", ",\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]}", 4},
    {"stem", ",\"model.0.weight\":{\"dtype\":\"F32\",\"shape\":[1,3,3,3],\"data_offsets\":[0,108]},"
             "\"model.0.bias\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[108,112]}", 112},
};

static void save(const char *folder, const char *name, const char *extension, bytes file) {
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s.%s", folder, name, extension);
    REQUIRE(n < (int)sizeof path, "%s", folder);
    bytes_save(&file, path);
    bytes_free(&file);
}

int main(int argc, char **argv) {
    REQUIRE(argc == 3, "usage: make_model_corpus MODEL_FOLDER METADATA_FOLDER");
    static const uint8_t zeros[512];
    text metadata = make_metadata("yolov8-tiny");
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        text header = {0};
        text_add(&header, "{\"__metadata__\":{\"libdetect\":");
        text_add_json(&header, metadata.chars);
        text_add(&header, "}%s}", seeds[i].tensors);
        save(argv[1], seeds[i].file, "safetensors", model_file_from(header.chars, zeros, seeds[i].data_bytes));
        text_free(&header);
    }
    text_free(&metadata);
    for (int i = 0; make_model_name(i); i++) { /* nothing but the description */
        text own = make_metadata(make_model_name(i));
        save(argv[1], make_model_name(i), "safetensors", model_file_of(own.chars, NULL, 0));
        save(argv[2], make_model_name(i), "json", (bytes){(uint8_t *)own.chars, own.n}); /* which frees the text */
    }
    save(argv[1], "whole-network", "safetensors", make_model("yolov5-least", NULL));
    save(argv[1], "not-json", "safetensors", model_file_from("{]", NULL, 0));
    save(argv[1], "empty", "safetensors", model_file_from("", NULL, 0));
    return 0;
}
