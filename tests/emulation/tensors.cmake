# Kernels on tensors, and the CUDA backend as a whole on a CUDA device that lives in host memory.
det_emulated_library(tensor_kernels attention.cu depthwise.cu group_norm.cu pointwise.cu spatial.cu)
det_emulation_test(tensor_kernels tensor_kernels emulation_oracle SOURCES tensor_kernels_test.c)

if(DET_HAS_CUDA)
  include(fake/fake.cmake)
else()
  message(STATUS "libdetect: no emulated CUDA module in the tests: it needs the toolkit's headers")
endif()
