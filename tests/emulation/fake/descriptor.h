/* cuDNN's backend descriptors as the fake keeps them. */
#ifndef DET_FAKE_DESCRIPTOR_H
#define DET_FAKE_DESCRIPTOR_H

#include "convolution.h"

#include <cstring>
#include <map>

#include <cudnn_graph.h>

namespace fake {

struct Value {
    cudnnBackendAttributeType_t type;
    int64_t count;
    std::vector<char> bytes;
};

/* y = mode(x) or mode(x, other); in place on the values of the convolution. */
struct Pointwise {
    cudnnPointwiseMode_t mode;
    double swish_beta;
    bool has_other;
    Tensor other;
    int64_t other_uid;
    cudaDataType result; /* values are rounded to it */
};

/* What an operation graph says. */
struct Program {
    Convolution convolution;
    int64_t x_uid, w_uid, y_uid;
    size_t x_alignment, w_alignment, y_alignment, other_alignment;
    std::vector<Pointwise> steps;
    Tensor y; /* where the last values go */
};

struct Engine {
    int64_t index;
    std::vector<cudnnBackendNumericalNote_t> notes;
    bool runtime_compiled;
    bool finalizes; /* heuristics name engines that then fail, too */
    bool tf32;
    int64_t workspace_bytes;
    int64_t split = 1; /* its one choice, as Convolution::split */
};

struct Descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<cudnnBackendAttributeName_t, Value> values;
    std::shared_ptr<Program> program;  /* of operation graphs, and of what is made of them */
    std::vector<Engine> engines;       /* heuristics */
    std::shared_ptr<Engine> engine;    /* engines, configurations, plans */
    std::vector<Descriptor *> made_of; /* must live as long as this is used */

    const Value *find(cudnnBackendAttributeName_t name) const {
        auto at = values.find(name);
        return at == values.end() ? nullptr : &at->second;
    }
    template <class T> T get(cudnnBackendAttributeName_t name, T otherwise) const {
        const Value *v = find(name);
        if (!v)
            return otherwise;
        T value;
        memcpy(&value, v->bytes.data(), sizeof value);
        return value;
    }
    template <class T> std::vector<T> all(cudnnBackendAttributeName_t name) const {
        const Value *v = find(name);
        std::vector<T> result(v ? (size_t)v->count : 0);
        if (v)
            memcpy(result.data(), v->bytes.data(), v->bytes.size());
        return result;
    }
    Descriptor *child(cudnnBackendAttributeName_t name) const {
        return get<Descriptor *>(name, nullptr);
    }
};

/* Remembers why for cudnnGetLastErrorString, and returns the status. */
__attribute__((format(printf, 2, 3))) cudnnStatus_t refuse(cudnnStatus_t status, const char *format, ...);
bool is_live(const Descriptor *d);
bool handle_is_live(cudnnHandle_t handle);

/* The rules of each kind of descriptor, checked when it is finalised. */
cudnnStatus_t finalize_tensor(Descriptor &d);
cudnnStatus_t finalize_convolution(Descriptor &d);
cudnnStatus_t finalize_convolution_operation(Descriptor &d);
cudnnStatus_t finalize_pointwise_operation(Descriptor &d);
cudnnStatus_t finalize_graph(Descriptor &d);
cudnnStatus_t finalize_engine(Descriptor &d);
cudnnStatus_t finalize_config(Descriptor &d);

/* Engines that heuristics of `mode` name for a program. */
std::vector<Engine> engines_for(const Program &program, cudnnBackendHeurMode_t mode);
cudnnStatus_t execute(cudaStream_t stream, const Descriptor &plan, const Descriptor &pack);

} // namespace fake

struct cudnnContext {
    int device;
    cudaStream_t stream; /* NULL until it is set */
};

#endif
