# What det_build_info() says, and flags that make the same source give the same bytes wherever it lies.
set(DET_REVISION "" CACHE STRING "The source's revision; empty: what git says at every build")
set(DET_GENERATED ${PROJECT_BINARY_DIR}/generated)
add_custom_target(detect_revision
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} "-DREVISION=${DET_REVISION}" -DOUT=${DET_GENERATED}/revision.h
    -P ${PROJECT_SOURCE_DIR}/cmake/revision.cmake
  BYPRODUCTS ${DET_GENERATED}/revision.h
  VERBATIM COMMENT "Naming the revision")

# Called when all is known that it names.
macro(det_name_build)
  set(cuda "no CUDA")
  if(DET_HAS_CUDA)
    set(cuda "CUDA ${CMAKE_CUDA_COMPILER_VERSION}")
  endif()
  add_dependencies(detect_objects detect_revision)
  set_source_files_properties(lib/build_id.c PROPERTIES INCLUDE_DIRECTORIES ${DET_GENERATED} COMPILE_DEFINITIONS
    "DET_COMPILER=\"${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}\";DET_PROCESSOR=\"${CMAKE_SYSTEM_PROCESSOR}\";DET_CUDA=\"${cuda}\"")
endmacro()

# Names of folders would otherwise stand in messages and in what debuggers read. Other build types keep them, for those
# who step through the code. The build folder comes second: gcc takes the last that fits, and it may lie in the source's.
foreach(option debug macro)
  add_compile_options($<$<CONFIG:Release>:-f${option}-prefix-map=${PROJECT_SOURCE_DIR}=.>
    $<$<CONFIG:Release>:-f${option}-prefix-map=${PROJECT_BINARY_DIR}=build>)
endforeach()
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON) # programs of the build folder find its library without naming the folder
