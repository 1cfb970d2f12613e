// minimal.c in C++: the same program with owners that clean up by themselves.
//
//     minimal_cxx MODEL.safetensors PICTURE.ppm
#include <libdetect/detect.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void check(det_status status) {
    if (status != DET_OK)
        throw std::runtime_error(det_last_error());
}

struct Release {
    void operator()(det_model *model) const {
        det_model_close(model);
    }
    void operator()(det_context *context) const {
        det_context_destroy(context);
    }
};

class Detector {
  public:
    explicit Detector(const char *path) {
        det_model *model;
        check(det_model_open(path, &model));
        model_.reset(model);
        det_context *context;
        check(det_context_create(model, nullptr, &context));
        context_.reset(context);
    }

    std::vector<det_object> detect(const det_image &picture) {
        std::vector<det_object> objects(100);
        int32_t n_objects = 0;
        det_output output = {};
        output.struct_size = sizeof output;
        output.objects = objects.data();
        output.counts = &n_objects;
        output.max_objects = static_cast<int32_t>(objects.size());
        check(det_run(context_.get(), &picture, 1, &output));
        objects.resize(static_cast<size_t>(n_objects));
        return objects;
    }

  private:
    std::unique_ptr<det_model, Release> model_;
    std::unique_ptr<det_context, Release> context_;
};

// The pixels of a binary PPM, and their picture.
std::vector<char> read_ppm(const char *path, det_image &picture) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    int largest = 0;
    if (!(file >> magic >> picture.width >> picture.height >> largest) || magic != "P6" || largest != 255 ||
        picture.width < 1 || picture.height < 1)
        throw std::runtime_error(std::string(path) + ": cannot be read as a PPM picture");
    file.get(); // the one blank behind the header
    std::vector<char> pixels(3 * static_cast<size_t>(picture.width) * static_cast<size_t>(picture.height));
    if (!file.read(pixels.data(), static_cast<std::streamsize>(pixels.size())))
        throw std::runtime_error(std::string(path) + ": is shorter than its size says");
    picture.planes[0] = pixels.data();
    picture.strides[0] = 3 * static_cast<int64_t>(picture.width);
    picture.format = DET_RGB8;
    return pixels;
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: minimal_cxx MODEL.safetensors PICTURE.ppm\n");
        return 1;
    }
    try {
        det_image picture = {};
        const std::vector<char> pixels = read_ppm(argv[2], picture);
        for (const det_object &object : Detector(argv[1]).detect(picture))
            std::printf("class %d  score %.3f  box %.1f %.1f %.1f %.1f\n", static_cast<int>(object.class_id),
                        static_cast<double>(object.score), static_cast<double>(object.x1),
                        static_cast<double>(object.y1), static_cast<double>(object.x2), static_cast<double>(object.y2));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "minimal_cxx: %s\n", error.what());
        return 1;
    }
    return 0;
}
