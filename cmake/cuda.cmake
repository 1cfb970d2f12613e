# The CUDA module, libdetect_cuda.so, when a toolkit with cuDNN 9 is found as system packages or inside pip's nvidia
# packages: sets DET_HAS_CUDA, DET_CUDA_INCLUDES and DET_CUDA_SOURCES, and builds `detect_cuda`.
set(DET_CUDA AUTO CACHE STRING "Build the CUDA module: AUTO (when the toolkit and cuDNN are found), ON or OFF")
set_property(CACHE DET_CUDA PROPERTY STRINGS AUTO ON OFF)
set(DET_CUDA_ARCHITECTURES "" CACHE STRING "Compute capabilities such as 80;90; the default is all that the toolkit knows of 80 86 87 89 90 100 120")
set(DET_HAS_CUDA OFF)

# What is missing ends the configuration where CUDA was asked for.
macro(det_no_cuda reason)
  if(DET_CUDA STREQUAL "AUTO")
    message(STATUS "libdetect: no CUDA module: ${reason}")
    return()
  endif()
  message(FATAL_ERROR "DET_CUDA is ON: ${reason}")
endmacro()

if(NOT DET_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "DET_CUDA is ${DET_CUDA}; AUTO, ON and OFF are known")
endif()
if(DET_CUDA STREQUAL "OFF")
  return()
endif()

# pip's packages lie in the nvidia folder beside others of this Python; scripts/setup-extra makes one that has them.
find_program(DET_CUDA_PYTHON NAMES python3 HINTS ${PROJECT_SOURCE_DIR}/build/cuda/bin)
mark_as_advanced(DET_CUDA_PYTHON)
set(nvidia_hints)
if(DET_CUDA_PYTHON)
  execute_process(COMMAND ${DET_CUDA_PYTHON} -c "import nvidia; print(';'.join(nvidia.__path__))"
    OUTPUT_VARIABLE nvidia_folders OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  foreach(folder ${nvidia_folders})
    file(GLOB parts ${folder}/*)
    list(APPEND nvidia_hints ${parts})
  endforeach()
endif()

find_program(DET_NVCC nvcc HINTS $ENV{CUDACXX} $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin ${nvidia_hints}
  PATHS /usr/local/cuda/bin PATH_SUFFIXES bin)
if(NOT DET_NVCC)
  det_no_cuda("nvcc was not found (set DET_NVCC)")
endif()
get_filename_component(nvcc_folder ${DET_NVCC} DIRECTORY)
get_filename_component(toolkit_folder ${nvcc_folder} DIRECTORY)
set(cuda_hints ${toolkit_folder} ${toolkit_folder}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux ${nvidia_hints})
find_path(DET_CUDA_INCLUDE cuda_runtime_api.h HINTS ${cuda_hints} PATH_SUFFIXES include)
find_path(DET_CUBLASLT_INCLUDE cublasLt.h HINTS ${cuda_hints} PATH_SUFFIXES include)
find_path(DET_CUDNN_INCLUDE cudnn_graph.h HINTS ${cuda_hints} PATH_SUFFIXES include)
find_library(DET_CUDART_LIBRARY NAMES libcudart_static.a HINTS ${cuda_hints} PATH_SUFFIXES lib64 lib)
find_library(DET_CUBLASLT_LIBRARY NAMES cublasLt libcublasLt.so.13 libcublasLt.so.12 HINTS ${cuda_hints} PATH_SUFFIXES lib64 lib)
find_library(DET_CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 HINTS ${cuda_hints} PATH_SUFFIXES lib64 lib)
foreach(part CUDA_INCLUDE CUBLASLT_INCLUDE CUDNN_INCLUDE CUDART_LIBRARY CUBLASLT_LIBRARY CUDNN_LIBRARY)
  mark_as_advanced(DET_${part})
  if(NOT DET_${part})
    det_no_cuda("DET_${part} was not found (cuDNN 9 and cuBLAS are needed beside the toolkit)")
  endif()
endforeach()

set(DET_CUDA_INCLUDES ${DET_CUDA_INCLUDE} ${DET_CUBLASLT_INCLUDE} ${DET_CUDNN_INCLUDE})
set(DET_CUDA_SOURCES lib/cuda/conv2d.c lib/cuda/core.c lib/cuda/cudnn_conv.c lib/cuda/cudnn_graph.c lib/cuda/device.c
  lib/cuda/graphs.c lib/cuda/kernel_cache.c lib/cuda/launch.c lib/cuda/lt_conv.c lib/cuda/runner.c lib/cuda/store.c
  lib/cuda/transfer.c lib/cuda/visit.c lib/cuda/warm.c lib/thread.c)
set(DET_HAS_CUDA ON)
if(DET_SANITIZE OR DET_BUILD_FUZZERS)
  return() # the same sources under sanitizers: tests/emulation
endif()

if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${DET_NVCC})
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES OFF) # given as flags below, once the toolkit has said what it knows
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.4)
  det_no_cuda("the CUDA toolkit is ${CMAKE_CUDA_COMPILER_VERSION}; 12.4 is the oldest")
endif()
if(DET_CUDA_ARCHITECTURES)
  set(architectures ${DET_CUDA_ARCHITECTURES})
else()
  execute_process(COMMAND ${DET_NVCC} --list-gpu-code OUTPUT_VARIABLE known)
  foreach(architecture 80 86 87 89 90 100 120)
    if(known MATCHES "sm_${architecture}(\n|$)")
      list(APPEND architectures ${architecture})
    endif()
  endforeach()
endif()
# Machine code for each, and PTX of the last for what comes after it.
set(architecture_flags)
foreach(architecture ${architectures})
  list(APPEND architecture_flags -gencode=arch=compute_${architecture},code=sm_${architecture})
  set(newest ${architecture})
endforeach()
list(APPEND architecture_flags -gencode=arch=compute_${newest},code=compute_${newest})
message(STATUS "libdetect: CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${architectures}, cuDNN in ${DET_CUDNN_LIBRARY}")

file(GLOB DET_CUDA_KERNELS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cu)

add_library(detect_cuda SHARED ${DET_CUDA_SOURCES} ${DET_CUDA_KERNELS})
set_target_properties(detect_cuda PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION 0 CUDA_STANDARD 17
  CUDA_ARCHITECTURES OFF CUDA_RUNTIME_LIBRARY None INSTALL_RPATH_USE_LINK_PATH ON
  LINKER_LANGUAGE CXX LINK_DEPENDS ${PROJECT_SOURCE_DIR}/lib/cuda/module.map)
target_include_directories(detect_cuda PRIVATE include lib kernels)
target_include_directories(detect_cuda SYSTEM PRIVATE ${DET_CUDA_INCLUDES})
target_compile_definitions(detect_cuda PRIVATE _GNU_SOURCE)
target_compile_options(detect_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:-O3 ${architecture_flags} --expt-relaxed-constexpr --threads=0 -Xcompiler=-fvisibility=hidden>)
target_link_libraries(detect_cuda PRIVATE ${DET_CUDNN_LIBRARY} ${DET_CUBLASLT_LIBRARY} ${DET_CUDART_LIBRARY}
  Threads::Threads ${CMAKE_DL_LIBS} rt)
target_link_options(detect_cuda PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/lib/cuda/module.map)
if(NOT DET_SANITIZE)
  target_link_options(detect_cuda PRIVATE -Wl,--no-undefined)
endif()
install(TARGETS detect_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cuda NAMELINK_SKIP)
