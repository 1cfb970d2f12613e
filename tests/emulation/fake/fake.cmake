# build/emulated/libdetect_cuda.so.0: lib/cuda as it is, kernels under the emulator, and CUDA, cuDNN and cublasLt replaced
# by this folder. What lies in build/emulated, or loads libdetect.so.0 from there, runs on it.
set(fake ${CMAKE_CURRENT_LIST_DIR})
set(emulated ${CMAKE_BINARY_DIR}/emulated)

add_library(fake_cuda SHARED ${fake}/control.cc ${fake}/convolution.cc ${fake}/cublaslt.cc ${fake}/cudnn.cc
  ${fake}/cudnn_plan.cc ${fake}/cudnn_rules.cc ${fake}/device.cc ${fake}/event.cc ${fake}/graph.cc ${fake}/memory.cc
  ${fake}/numbers.cc ${fake}/stream.cc)
target_compile_features(fake_cuda PUBLIC cxx_std_17)
target_include_directories(fake_cuda PUBLIC ${fake})
target_include_directories(fake_cuda SYSTEM PUBLIC ${DET_CUDA_INCLUDES})
set_target_properties(fake_cuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${emulated} CXX_VISIBILITY_PRESET default)
target_link_libraries(fake_cuda PRIVATE Threads::Threads)
set_source_files_properties(${fake}/convolution.cc PROPERTIES COMPILE_OPTIONS "-O3")

file(GLOB kernels CONFIGURE_DEPENDS RELATIVE ${kernels_dir} ${kernels_dir}/*.cu)
det_emulated_library(emulated_kernels ${kernels})
add_library(emulated_launches STATIC emulator.cc fiber.cc ${fake}/bridge.cc)
det_emulation_flags(emulated_launches)
target_compile_definitions(emulated_launches PRIVATE DET_EMULATION_STREAMS)

list(TRANSFORM DET_CUDA_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/ OUTPUT_VARIABLE module_sources)
add_library(detect_cuda_emulated SHARED ${module_sources})
set_target_properties(detect_cuda_emulated PROPERTIES OUTPUT_NAME detect_cuda VERSION ${PROJECT_VERSION} SOVERSION 0
  LIBRARY_OUTPUT_DIRECTORY ${emulated} LINKER_LANGUAGE CXX)
target_include_directories(detect_cuda_emulated PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/lib
  ${PROJECT_SOURCE_DIR}/kernels)
target_compile_definitions(detect_cuda_emulated PRIVATE _GNU_SOURCE)
add_dependencies(detect_cuda_emulated emulated_kernels emulated_launches) # as files: their headers stand for other headers
target_link_libraries(detect_cuda_emulated PRIVATE $<TARGET_FILE:emulated_kernels> $<TARGET_FILE:emulated_launches>
  fake_cuda)
target_link_options(detect_cuda_emulated PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/lib/cuda/module.map)
if(NOT DET_SANITIZE)
  target_link_options(detect_cuda_emulated PRIVATE -Wl,--no-undefined)
endif()

# The same library again beside that module, for the tool, Python and whatever else loads it.
add_library(detect_lib_emulated SHARED $<TARGET_OBJECTS:detect_objects>)
set_target_properties(detect_lib_emulated PROPERTIES OUTPUT_NAME detect VERSION ${PROJECT_VERSION} SOVERSION 0
  LIBRARY_OUTPUT_DIRECTORY ${emulated})
target_include_directories(detect_lib_emulated PUBLIC ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(detect_lib_emulated PRIVATE ${DET_PRIVATE_LIBRARIES})
target_link_options(detect_lib_emulated PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/include/libdetect/libdetect.map)
add_dependencies(detect_lib_emulated detect_cuda_emulated)

add_executable(fake_cuda_test ${fake}/fake_test.cc)
target_include_directories(fake_cuda_test PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
target_link_libraries(fake_cuda_test PRIVATE fake_cuda)
add_test(NAME emulation.fake_cuda COMMAND fake_cuda_test)

add_executable(choice_test ${fake}/choice_test.c)
target_include_directories(choice_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_link_libraries(choice_test PRIVATE test_models detect_lib_emulated fake_cuda)
add_test(NAME emulation.choice COMMAND choice_test)

# The same questions to the fake, and to cuDNN itself.
foreach(library fake real)
  add_executable(cudnn_rules_${library}_test ${fake}/cudnn_rules_test.c)
  target_include_directories(cudnn_rules_${library}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
  target_include_directories(cudnn_rules_${library}_test SYSTEM PRIVATE ${DET_CUDA_INCLUDES})
  add_test(NAME emulation.cudnn_rules_${library} COMMAND cudnn_rules_${library}_test)
endforeach()
target_link_libraries(cudnn_rules_fake_test PRIVATE fake_cuda)
target_link_libraries(cudnn_rules_real_test PRIVATE ${DET_CUDNN_LIBRARY})

# cuDNN itself, its heuristics and run-time compiler, for a device that is not here, with a driver that does nothing.
# det_absent_device_program(name source...)
add_library(fake_driver SHARED ${fake}/driver.c)
set_target_properties(fake_driver PROPERTIES OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${emulated}/driver)
function(det_absent_device_program name)
  add_executable(${name} ${ARGN} ${fake}/absent_device.c)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/kernels)
  target_include_directories(${name} SYSTEM PRIVATE ${DET_CUDA_INCLUDES})
  target_link_libraries(${name} PRIVATE detect_test_support ${DET_CUDNN_LIBRARY} ${CMAKE_DL_LIBS})
  target_link_options(${name} PRIVATE -Wl,--wrap=cudnnBackendSetAttribute)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  add_dependencies(${name} fake_driver)
endfunction()
# cuDNN keeps what it took until the process ends: not for the leak checker.
set(absent_device "LD_LIBRARY_PATH=${emulated}/driver:$ENV{LD_LIBRARY_PATH};ASAN_OPTIONS=detect_leaks=0")
set(absent_h200 ${PROJECT_SOURCE_DIR}/tests/data/cudnn/h200.json)

det_absent_device_program(cudnn_plans_test ${fake}/cudnn_plans_test.c ${PROJECT_SOURCE_DIR}/lib/cuda/cudnn_conv.c
  ${PROJECT_SOURCE_DIR}/lib/cuda/cudnn_graph.c ${PROJECT_SOURCE_DIR}/lib/cuda/kernel_cache.c)
add_test(NAME emulation.cudnn_plans COMMAND cudnn_plans_test ${absent_h200})
set_tests_properties(emulation.cudnn_plans PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT "${absent_device}")

# The rest of the backend beside cuDNN itself: whatever else it calls is the fake's.
list(FILTER module_sources EXCLUDE REGEX "core.c|thread.c")
det_absent_device_program(plan_time_test ${fake}/plan_time_test.c ${module_sources})
target_link_libraries(plan_time_test PRIVATE $<TARGET_FILE:emulated_kernels> $<TARGET_FILE:emulated_launches> fake_cuda)
target_link_options(plan_time_test PRIVATE -Wl,--wrap=cudnnCreate,--wrap=cudnnDestroy,--wrap=cudnnSetStream)
add_dependencies(plan_time_test emulated_kernels emulated_launches)
if(DET_PYTHON AND NOT DET_SANITIZE) # nearly all of its time is the compiler within cuDNN, which no sanitizer sees
  add_test(NAME emulation.plan_time COMMAND ${DET_PYTHON} ${PROJECT_SOURCE_DIR}/tests/models/run_plan_time.py
    $<TARGET_FILE:plan_time_test> ${absent_h200})
  set_tests_properties(emulation.plan_time PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT "${absent_device}")
endif()
