# find_package(libdetect): the targets libdetect::libdetect (shared) and, where libdetect.a was installed,
# libdetect::static.

####### Expanded from @PACKAGE_INIT@ by configure_package_config_file() #######
####### Any changes to this file will be overwritten by the next CMake run ####
####### The input file was libdetect-config.cmake.in                            ########

get_filename_component(PACKAGE_PREFIX_DIR "${CMAKE_CURRENT_LIST_DIR}/../../../" ABSOLUTE)

macro(set_and_check _var _file)
  set(${_var} "${_file}")
  if(NOT EXISTS "${_file}")
    message(FATAL_ERROR "File or directory ${_file} referenced by variable ${_var} does not exist !")
  endif()
endmacro()

macro(check_required_components _NAME)
  foreach(comp ${${_NAME}_FIND_COMPONENTS})
    if(NOT ${_NAME}_${comp}_FOUND)
      if(${_NAME}_FIND_REQUIRED_${comp})
        set(${_NAME}_FOUND FALSE)
      endif()
    endif()
  endforeach()
endmacro()

####################################################################################

include("${CMAKE_CURRENT_LIST_DIR}/libdetect-targets.cmake")

set(_detect_archive "${PACKAGE_PREFIX_DIR}/lib/libdetect.a")
if(EXISTS "${_detect_archive}" AND NOT TARGET libdetect::static)
  include(CMakeFindDependencyMacro)
  find_dependency(Threads)
  add_library(libdetect::static STATIC IMPORTED)
  # -lstdc++, -lm: oneDNN is C++, and a program in C would be linked without.
  set_target_properties(libdetect::static PROPERTIES IMPORTED_LOCATION "${_detect_archive}"
    INTERFACE_INCLUDE_DIRECTORIES "${PACKAGE_PREFIX_DIR}/include"
    INTERFACE_LINK_LIBRARIES "dnnl;stdc++;m;Threads::Threads;${CMAKE_DL_LIBS}")
endif()
unset(_detect_archive)

check_required_components(libdetect)
