# Joins objects (INPUTS) and jansson (JANSSON) into one archive (OUTPUT) that shows the symbols of a linker script (MAP)
# alone.
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    file(REMOVE ${OUTPUT})
    message(FATAL_ERROR "failed: ${ARGN}")
  endif()
endfunction()

file(READ ${MAP} map)
string(REGEX MATCHALL "det_[a-z_0-9]+;" symbols "${map}")
string(REGEX REPLACE "[;\\]+" "\n" symbols "${symbols}")
set(object ${OUTPUT}.o)
file(WRITE ${OUTPUT}.symbols "${symbols}")
file(REMOVE ${OUTPUT})
# Groups are what C++ shares between objects; allocated here, they are this library's own.
run(${OBJCOPY} --redefine-sym stdin=det_no_stdin ${JANSSON} ${OUTPUT}.jansson.a) # why: lib/no_stdin.c
run(${LINKER} -r --force-group-allocation -o ${object} ${INPUTS} ${OUTPUT}.jansson.a)
run(${OBJCOPY} --keep-global-symbols=${OUTPUT}.symbols ${object})
run(${AR} rcsD ${OUTPUT} ${object})
file(REMOVE ${object} ${OUTPUT}.symbols ${OUTPUT}.jansson.a)
