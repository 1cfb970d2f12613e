# Run by cpack before it packs: what Debian's policy wants of a package and other systems do not know.
if(NOT CPACK_GENERATOR STREQUAL DEB)
  return()
endif()
find_program(GZIP gzip REQUIRED)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC) # SOURCE_DATE_EPOCH's, where that is set

foreach(component ${CPACK_COMPONENTS_ALL})
  string(TOUPPER ${component} upper)
  set(package ${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
  set(root ${CPACK_TEMPORARY_DIRECTORY}/${component}/usr)
  file(WRITE ${root}/share/doc/${package}/copyright
    "Copyright 2026 The libdetect developers\n\nLicensed under the Apache License, version 2.0: /usr/share/common-licenses/Apache-2.0.\n")
  file(WRITE ${root}/share/doc/${package}/changelog
    "libdetect (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium\n\n  * See CHANGELOG.md of the source.\n\n"
    " -- ${CPACK_PACKAGE_CONTACT}  ${date}\n")
  file(GLOB programs ${root}/bin/*)
  foreach(program ${programs})
    file(RPATH_REMOVE FILE ${program}) # below /usr the loader finds the library by itself
  endforeach()
  file(GLOB compressed ${root}/share/doc/${package}/changelog ${root}/share/man/man1/*.1)
  foreach(file ${compressed})
    execute_process(COMMAND ${GZIP} -9n ${file} COMMAND_ERROR_IS_FATAL ANY)
  endforeach()
endforeach()
