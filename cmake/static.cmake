# libdetect.a: one relocatable object whose only global symbols are those of the map, so that what else is in it has no
# name that a program, or a second copy in a plugin, could meet. oneDNN stays outside: Debian has it as a shared library
# only.
set(DET_STATIC_LIBRARY ${PROJECT_BINARY_DIR}/libdetect.a)
# binutils' tools, also where clang has led CMake to LLVM's, whose linker does not allocate groups.
set(DET_LD ${CMAKE_LINKER})
set(DET_OBJCOPY ${CMAKE_OBJCOPY})
if(DET_LD MATCHES "lld" OR DET_OBJCOPY MATCHES "llvm")
  find_program(DET_GNU_LD ld.bfd)
  find_program(DET_GNU_OBJCOPY objcopy)
  mark_as_advanced(DET_GNU_LD DET_GNU_OBJCOPY)
  set(DET_LD ${DET_GNU_LD})
  set(DET_OBJCOPY ${DET_GNU_OBJCOPY})
endif()
set(missing)
foreach(needed DET_LD DET_OBJCOPY CMAKE_AR)
  if(NOT ${needed})
    string(APPEND missing " ${needed}")
  endif()
endforeach()
if(missing)
  message(STATUS "No libdetect.a: not found:${missing}")
elseif(DET_SANITIZE)
  message(STATUS "No libdetect.a: sanitizers are for what is run here")
elseif(DET_BUILD_STATIC)
  set(map ${PROJECT_SOURCE_DIR}/include/libdetect/libdetect.map)
  add_custom_command(OUTPUT ${DET_STATIC_LIBRARY}
    COMMAND ${CMAKE_COMMAND} -DLINKER=${DET_LD} -DOBJCOPY=${DET_OBJCOPY} -DAR=${CMAKE_AR} -DMAP=${map}
      -DOUTPUT=${DET_STATIC_LIBRARY} "-DINPUTS=$<TARGET_OBJECTS:detect_objects>"
      -P ${PROJECT_SOURCE_DIR}/cmake/merge.cmake
    DEPENDS $<TARGET_OBJECTS:detect_objects> ${map} ${PROJECT_SOURCE_DIR}/cmake/merge.cmake
    VERBATIM COMMENT "Linking static library libdetect.a")
  add_custom_target(detect_archive ALL DEPENDS ${DET_STATIC_LIBRARY})
  install(FILES ${DET_STATIC_LIBRARY} DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT dev)
endif()
