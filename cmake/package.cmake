# `cpack` in the build folder, or scripts/package: Debian packages for programs that run (libdetect0), for people
# (libdetect-tools), for those who build programs (libdetect-dev), and for GPUs (libdetect-cuda0, where CUDA was found).
set(CPACK_PACKAGE_NAME libdetect)
set(CPACK_PACKAGE_VENDOR libdetect)
# The field is required and the project has no address: .invalid never is one (RFC 6761). Who hands packages on sets his.
set(CPACK_PACKAGE_CONTACT "The libdetect developers <nobody@libdetect.invalid>" CACHE STRING "Maintainer of the packages")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "finds faces and objects in pictures")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL runtime tools dev)
if(DET_HAS_CUDA)
  list(APPEND CPACK_COMPONENTS_ALL cuda)
endif()
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/debian_files.cmake)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}) # where the tool finds libdetect while packing

set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME libdetect0)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/debian/triggers)
set(CPACK_COMPONENT_RUNTIME_DESCRIPTION
  "shared library\n What programs use: DamoFD, SCRFD and YOLO networks, on the CPU by oneDNN.")
set(CPACK_DEBIAN_CUDA_PACKAGE_NAME libdetect-cuda0)
set(CPACK_DEBIAN_CUDA_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_CUDA_PACKAGE_DEPENDS "libdetect0 (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_CUDA_PACKAGE_SHLIBDEPS OFF) # NVIDIA's packages are not Debian's
set(CPACK_COMPONENT_CUDA_DESCRIPTION
  "CUDA module\n What the library loads to run on NVIDIA's GPUs. It needs cuDNN 9 and cuBLAS.")
set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME libdetect-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION graphics)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "libdetect0 (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_TOOLS_DESCRIPTION
  "command line\n The tool detect: pictures in; tables, JSON, CSV or drawn pictures out.")
set(CPACK_DEBIAN_DEV_PACKAGE_NAME libdetect-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "libdetect0 (= ${PROJECT_VERSION}), libdnnl-dev")
set(CPACK_COMPONENT_DEV_DESCRIPTION
  "development files\n Header, static library, CMake package and pkg-config file.")
include(CPack)
