# What det_build_info() says, and flags that make the same source give the same bytes wherever it lies.
set(DET_REVISION "" CACHE STRING "The source's revision; empty: what git says when CMake runs")
set(revision "${DET_REVISION}")
if(NOT revision AND EXISTS ${PROJECT_SOURCE_DIR}/REVISION) # of a source distribution
  file(STRINGS ${PROJECT_SOURCE_DIR}/REVISION revision LIMIT_COUNT 1)
endif()
if(NOT revision)
  find_package(Git QUIET)
  if(GIT_FOUND AND EXISTS ${PROJECT_SOURCE_DIR}/.git)
    execute_process(COMMAND ${GIT_EXECUTABLE} -C ${PROJECT_SOURCE_DIR} describe --always --dirty --tags
      OUTPUT_VARIABLE revision OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
if(NOT revision)
  set(revision "no revision")
endif()

# Called when all is known that it names.
macro(det_name_build)
  set(cuda "no CUDA")
  if(DET_HAS_CUDA)
    set(cuda "CUDA ${CMAKE_CUDA_COMPILER_VERSION}")
  endif()
  set_source_files_properties(lib/build_id.c PROPERTIES COMPILE_DEFINITIONS
    "DET_REVISION=\"${revision}\";DET_COMPILER=\"${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}\";DET_PROCESSOR=\"${CMAKE_SYSTEM_PROCESSOR}\";DET_CUDA=\"${cuda}\"")
endmacro()

# Names of folders would otherwise stand in messages and in what debuggers read. Other build types keep them, for those
# who step through the code.
foreach(option debug macro)
  add_compile_options($<$<CONFIG:Release>:-f${option}-prefix-map=${PROJECT_BINARY_DIR}=build>
    $<$<CONFIG:Release>:-f${option}-prefix-map=${PROJECT_SOURCE_DIR}=.>)
endforeach()
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON) # programs of the build folder find its library without naming the folder
