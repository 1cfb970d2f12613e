# cmake -DSOURCE=FOLDER -DOUT=revision.h [-DREVISION=TEXT] -P revision.cmake: what the source's revision is when it is
# built, not when CMake has run. Leaves a file that says so already as it is: nothing is compiled again.
cmake_minimum_required(VERSION 3.18)
if(NOT REVISION AND EXISTS ${SOURCE}/REVISION) # of a source distribution
  file(STRINGS ${SOURCE}/REVISION REVISION LIMIT_COUNT 1)
endif()
# Only the source's own repository: one that it lies in as a copy has other revisions.
if(NOT REVISION AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND git --no-optional-locks -C ${SOURCE} describe --always --dirty --tags
    OUTPUT_VARIABLE REVISION OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT REVISION)
  set(REVISION "no revision")
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define DET_REVISION \"@REVISION@\"\n" @ONLY)
