# cmake -DFOLDER=pages -DOUT=pages.c -P embed.cmake: files as C arrays, for a server that needs none beside it.
set(text "#include \"pages.h\"\n")
foreach(file index.html docs.html openapi.json)
  get_filename_component(name ${file} NAME_WE)
  file(READ ${FOLDER}/${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND text "static const unsigned char ${name}_bytes[] = {${bytes}};\n"
    "const page page_${name} = {${name}_bytes, sizeof ${name}_bytes};\n")
endforeach()
file(WRITE ${OUT} "${text}")
