# Cross-building for 64-bit ARM with Debian's compiler. Libraries are those of multiarch packages (dpkg --add-architecture
# arm64), or those below DET_SYSROOT (scripts/cross-test).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES DET_SYSROOT)

set(CMAKE_FIND_ROOT_PATH ${DET_SYSROOT} /usr/aarch64-linux-gnu)
if(NOT DET_SYSROOT)
  list(APPEND CMAKE_FIND_ROOT_PATH /)
endif()
if(DET_SYSROOT) # headers that differ between processors
  set(CMAKE_C_FLAGS_INIT "-isystem ${DET_SYSROOT}/usr/include/aarch64-linux-gnu")
  set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT}")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

# pkg-config must see that architecture's files alone; their prefix is below the root.
set(ENV{PKG_CONFIG_LIBDIR} ${DET_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${DET_SYSROOT}")

find_program(qemu NAMES qemu-aarch64-static qemu-aarch64)
if(qemu)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${qemu} -L /usr/aarch64-linux-gnu)
  if(DET_SYSROOT)
    list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -E LD_LIBRARY_PATH=${DET_SYSROOT}/usr/lib/aarch64-linux-gnu)
    # What those libraries need themselves.
    set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath-link,${DET_SYSROOT}/usr/lib/aarch64-linux-gnu)
    set(CMAKE_SHARED_LINKER_FLAGS_INIT -Wl,-rpath-link,${DET_SYSROOT}/usr/lib/aarch64-linux-gnu)
  endif()
endif()
