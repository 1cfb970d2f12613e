# What `cmake --install` puts where. Components: runtime (the library), tools (the programs, their manual,
# completion), dev (what other programs are built with), cuda (the module for GPUs).
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/libdetect)

set_target_properties(detect_lib PROPERTIES EXPORT_NAME libdetect)
install(TARGETS detect_lib EXPORT libdetect
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT runtime NAMELINK_COMPONENT dev)
install(FILES include/libdetect/detect.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/libdetect COMPONENT dev)
install(EXPORT libdetect NAMESPACE libdetect:: FILE libdetect-targets.cmake DESTINATION ${package_dir} COMPONENT dev)

# Both find the prefix from where they lie, so that an installed tree may be moved.
file(RELATIVE_PATH DET_PREFIX_FROM_PKGCONFIG /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" DET_PREFIX_FROM_PKGCONFIG ${DET_PREFIX_FROM_PKGCONFIG})
configure_package_config_file(cmake/libdetect-config.cmake.in libdetect-config.cmake INSTALL_DESTINATION ${package_dir}
  PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/libdetect-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/libdetect-config.cmake ${PROJECT_BINARY_DIR}/libdetect-config-version.cmake
  DESTINATION ${package_dir} COMPONENT dev)

set(pkgconfig_files libdetect)
if(TARGET detect_archive)
  list(APPEND pkgconfig_files libdetect-static)
endif()
foreach(name ${pkgconfig_files})
  configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT dev)
endforeach()

set(documents ${CMAKE_INSTALL_DOCDIR})
if(NOT DET_TOP_LEVEL) # that is the other project's folder, with a README.md of its own
  set(documents ${CMAKE_INSTALL_DATAROOTDIR}/doc/libdetect)
endif()
install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${documents} COMPONENT dev)
if(DET_BUILD_EXAMPLES)
  install(FILES packaging/man/detect.1 packaging/man/detect-bench.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
    COMPONENT tools)
  install(FILES packaging/completion/detect.bash RENAME detect COMPONENT tools
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES packaging/completion/_detect COMPONENT tools
    DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
  install(FILES packaging/completion/detect.fish COMPONENT tools
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()
